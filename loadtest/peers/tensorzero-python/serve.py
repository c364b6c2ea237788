"""Starts the gateway that the package `tensorzero` embeds, says where it listens, and sleeps.

It is what `tensorzero.patch_openai_client` starts for an OpenAI client.
"""

import json
import os
import signal
import sys
import urllib.parse

# Its log goes to stdout, where one line is expected and nothing else.
said = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from tensorzero.tensorzero import _start_http_gateway

gateway = _start_http_gateway(
    config_file=sys.argv[1],
    clickhouse_url=None,
    postgres_url=None,
    valkey_url=None,
    async_setup=False,
)
where = urllib.parse.urlparse(str(gateway.base_url)).netloc
print(json.dumps({"listening": where}), file=said, flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.pause()
