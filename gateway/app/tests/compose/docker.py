#!/usr/bin/env python3
"""`docker`, as far as engine.py has it: passes its words on and prints what comes back."""

import json
import os
import socket
import sys

words = sys.argv[1:]
stdin = sys.stdin.read() if "-T" in words else ""
with socket.socket(socket.AF_UNIX) as engine:
    engine.connect(os.environ["ENGINE"])
    with engine.makefile("rw") as lines:
        lines.write(json.dumps(dict(words=words, stdin=stdin)) + "\n")
        lines.flush()
        told = json.loads(lines.read())
sys.stdout.write(told["stdout"])
sys.stderr.write(told["stderr"])
sys.exit(told["code"])
