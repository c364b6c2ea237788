"""The `google-genai` SDK, unmodified, against a running gateway.

Usage: genai.py plain|stream|handle
Reads TOLLGATE_URL (the gateway's root) and TASK_TOKEN; exits non-zero at the first surprise.
"""

import os
import sys

from google import genai
from google.genai import types

TOKEN = os.environ["TASK_TOKEN"]
MODEL = "gemini-2.5-flash"
ASK = {"model": MODEL, "contents": "Say something."}
BOUND = types.GenerateContentConfig(max_output_tokens=64)


#: Clients close their connections when they are forgotten.
CLIENTS = []


def client(key: str = TOKEN, headers: dict | None = None):
    options = types.HttpOptions(base_url=os.environ["TOLLGATE_URL"] + "/gemini", headers=headers)
    CLIENTS.append(genai.Client(api_key=key, http_options=options))
    return CLIENTS[-1].models


def plain() -> None:
    models = client()
    answer = models.generate_content(**ASK, config=BOUND)
    assert answer.text and answer.candidates[0].finish_reason == "STOP", answer
    usage = answer.usage_metadata
    assert usage.prompt_token_count > 0 and usage.candidates_token_count > 0, usage
    counted = models.count_tokens(**ASK)
    assert counted.total_tokens > 0, counted
    embedded = models.embed_content(model="gemini-embedding-001", contents="some text")
    assert embedded.embeddings[0].values, embedded


def stream() -> None:
    chunks = list(client().generate_content_stream(**ASK, config=BOUND))
    assert len(chunks) > 1 and "".join(chunk.text for chunk in chunks), chunks
    assert chunks[-1].usage_metadata.candidates_token_count > 0, chunks[-1]


def handle() -> None:
    # The handle stands where the key would; the token goes beside it.
    models = client("$CRED{gemini_key}", {"x-tollgate-token": TOKEN})
    answer = models.generate_content(**ASK, config=BOUND)
    assert answer.text, answer


MODES = {"plain": plain, "stream": stream, "handle": handle}

if __name__ == "__main__":
    MODES[sys.argv[1]]()
