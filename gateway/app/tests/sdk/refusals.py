"""What the scripts `*_refusals.py` share: they run a table of refusals, all rows at once.

Reads TOLLGATE_URL (the gateway's root) and TOKENS (a JSON object: a task token for each row).
Prints a JSON object: for each row, how many calls the gateway should have refused and served.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor

URL = os.environ["TOLLGATE_URL"]
TOKENS = json.loads(os.environ["TOKENS"])
#: More than the gateway of this test reads of a body that it judges.
TOO_LARGE = "x" * ((1 << 20) + 1)
#: A bound on the output that the tenant of the row `headroom` cannot afford.
HUGE = 100_000


def raised_by(call, *arguments, **options) -> Exception:
    """The exception that the call ends with."""
    try:
        answer = call(*arguments, **options)
    except Exception as error:  # noqa: BLE001: which class it is, is what the table says
        return error
    raise AssertionError(f"the call went through: {answer}")


def run(rows: dict) -> None:
    """Runs each row's function with the row's token; each returns [refused, served]."""
    with ThreadPoolExecutor(len(rows)) as pool:
        futures = {name: pool.submit(row, TOKENS[name]) for name, row in rows.items()}
        tries = {}
        for name, future in futures.items():
            try:
                tries[name] = future.result()
            except Exception as error:
                raise AssertionError(f"row {name}") from error
    print(json.dumps(tries))
