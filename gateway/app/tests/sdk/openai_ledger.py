"""What the `openai` Python SDK, unmodified, makes of a gateway whose disk is full. See refusals.py."""

import openai

from openai_refusals import refused
from refusals import run

# Asked again after two seconds each time, as told.
ROWS = {
    "ledger": refused(
        openai.InternalServerError, 503, "ledger_unavailable", "server_error", tries=3
    ),
}

if __name__ == "__main__":
    run(ROWS)
