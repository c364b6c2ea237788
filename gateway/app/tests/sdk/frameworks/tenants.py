"""What the framework scripts share: two tenants in one process, and what the mock provider says.

Reads TOLLGATE_URL (the gateway's root), ACME_TOKEN and GLOBEX_TOKEN. A script exits non-zero, with a
traceback, at the first surprise. Whatever tries to reach another host than the gateway is stopped, and
`play` fails. To be imported before the framework, so that nothing escapes the hook.
"""

import asyncio
import inspect
import os
import sys

#: The mock provider calls the tool that a user's message spells out.
CALL_A_TOOL = 'Call order_status({"order":"4711"}) and say how it stands.'
#: What it says else, and for how many tokens.
SAID = "Hello from the mock provider. All is well."
OUTPUT = 20

#: Other hosts that something has tried to reach.
STRANGERS = []


def play(calls) -> None:
    """Makes the calls as one tenant, then as the other."""
    for token in ("ACME_TOKEN", "GLOBEX_TOKEN"):
        done = calls(os.environ["TOLLGATE_URL"], os.environ[token])
        if inspect.isawaitable(done):
            asyncio.run(_finish(done))
    assert not STRANGERS, STRANGERS


async def _finish(done) -> None:
    await done


def _watch(event: str, arguments: tuple) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in ("127.0.0.1", b"127.0.0.1"):
        STRANGERS.append(host)
        raise OSError(f"not the gateway: {host}")


sys.addaudithook(_watch)
