"""The `anthropic` Python SDK, unmodified, against a running gateway.

Usage: anthropic_python.py plain|stream|cap
Reads TOLLGATE_URL (the gateway's root) and TASK_TOKEN; exits non-zero at the first surprise.
"""

import os
import sys

import anthropic

MODEL = "claude-sonnet-4-5"
ASK = {
    "model": MODEL,
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Say something."}],
}


def client() -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=os.environ["TOLLGATE_URL"] + "/anthropic", api_key=os.environ["TASK_TOKEN"]
    )


def check(message) -> None:
    assert message.type == "message" and message.role == "assistant", message
    assert message.content[0].text, message
    assert message.stop_reason == "end_turn", message
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0, message.usage


def plain() -> None:
    check(client().messages.create(**ASK))
    counted = client().messages.count_tokens(model=MODEL, messages=ASK["messages"])
    assert counted.input_tokens > 0, counted


def stream() -> None:
    with client().messages.stream(**ASK) as events:
        text = "".join(events.text_stream)
        message = events.get_final_message()
    check(message)
    assert text == message.content[0].text, (text, message)


def cap() -> None:
    try:
        client().messages.create(**ASK)
    except anthropic.RateLimitError as error:
        assert error.status_code == 429, error
        assert error.body["type"] == "error", error.body
        assert error.body["error"]["type"] == "rate_limit_error", error.body
        assert error.response.headers["x-should-retry"] == "false", error.response.headers
    else:
        raise AssertionError("a call over the cap went through")


MODES = {"plain": plain, "stream": stream, "cap": cap}

if __name__ == "__main__":
    MODES[sys.argv[1]]()
