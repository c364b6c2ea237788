"""The `openai` Python SDK, unmodified, against a running gateway.

Usage: openai_python.py sync|async|stream|raw|responses|embeddings|cap
Reads TOLLGATE_URL (the gateway's root), TASK_TOKEN and, for `cap`, nothing else. Every mode makes
the calls a user would make and exits non-zero, with a traceback, at the first surprise.
"""

import asyncio
import os
import sys

import openai

URL = os.environ["TOLLGATE_URL"] + "/openai/v1"
TOKEN = os.environ["TASK_TOKEN"]
MODEL = "gpt-4o-mini"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}


def client() -> openai.OpenAI:
    return openai.OpenAI(base_url=URL, api_key=TOKEN)


def check_completion(answer) -> None:
    assert answer.object == "chat.completion", answer
    assert answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason == "stop", answer
    usage = answer.usage
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


def sync() -> None:
    check_completion(client().chat.completions.create(**ASK))
    models = list(client().models.list())
    assert models and all(model.id for model in models), models


def asynchronous() -> None:
    async def calls() -> None:
        async with openai.AsyncOpenAI(base_url=URL, api_key=TOKEN) as c:
            answers = await asyncio.gather(*(c.chat.completions.create(**ASK) for _ in range(8)))
            for answer in answers:
                check_completion(answer)
            text = ""
            async for chunk in await c.chat.completions.create(stream=True, **ASK):
                if chunk.choices and chunk.choices[0].delta.content:
                    text += chunk.choices[0].delta.content
            assert text

    asyncio.run(calls())


def stream() -> None:
    # Not asked for: the gateway asks for usage on the client's behalf, and the client sees none.
    chunks = list(client().chat.completions.create(stream=True, **ASK))
    assert all(chunk.usage is None for chunk in chunks), "usage came without having been asked for"
    assert all(chunk.choices for chunk in chunks), "the usage chunk was not taken out"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text and chunks[-1].choices[0].finish_reason == "stop", chunks[-1]

    # Asked for: the last chunk carries it.
    chunks = list(
        client().chat.completions.create(
            stream=True, stream_options={"include_usage": True}, **ASK
        )
    )
    assert chunks[-1].usage and chunks[-1].usage.total_tokens > 0, chunks[-1]
    assert not chunks[-1].choices, chunks[-1]


def raw() -> None:
    answer = client().chat.completions.with_raw_response.create(**ASK)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    assert answer.headers["x-tollgate-request-id"], answer.headers
    check_completion(answer.parse())


def responses() -> None:
    answer = client().responses.create(model=MODEL, input="Say something.", max_output_tokens=64)
    assert answer.output_text, answer
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage
    kinds = [
        event.type
        for event in client().responses.create(
            model=MODEL, input="Say something.", max_output_tokens=64, stream=True
        )
    ]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    assert "response.output_text.delta" in kinds, kinds


def embeddings() -> None:
    answer = client().embeddings.create(model="text-embedding-3-small", input="some text")
    assert answer.data and answer.data[0].embedding, answer
    assert answer.usage.prompt_tokens > 0, answer.usage


def cap() -> None:
    try:
        client().chat.completions.create(**ASK)
    except openai.RateLimitError as error:
        assert error.status_code == 429, error
        assert error.code in ("spend_limit_exceeded", "request_exceeds_headroom"), error.code
        assert error.type == "insufficient_quota", error.type
        assert error.response.headers["x-should-retry"] == "false", error.response.headers
    else:
        raise AssertionError("a call over the cap went through")


MODES = {
    "sync": sync,
    "async": asynchronous,
    "stream": stream,
    "raw": raw,
    "responses": responses,
    "embeddings": embeddings,
    "cap": cap,
}

if __name__ == "__main__":
    MODES[sys.argv[1]]()
