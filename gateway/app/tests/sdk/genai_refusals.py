"""What the `google-genai` SDK, unmodified, makes of every refusal. See refusals.py.

Of itself it never tries again; each row counts on that. `retrying` is what it does when it is
told to.
"""

from google import genai
from google.genai import errors, types

from refusals import HUGE, TOO_LARGE, URL, raised_by, run

MODEL = "gemini-2.5-flash"


def generate(
    token: str,
    provider: str = "gemini",
    model: str = MODEL,
    contents: str = "Say something.",
    bound: int = 64,
    more=None,
    retry=None,
):
    options = types.HttpOptions(
        base_url=f"{URL}/{provider}", extra_body=more, retry_options=retry
    )
    client = genai.Client(api_key=token, http_options=options)
    config = types.GenerateContentConfig(max_output_tokens=bound)
    return client.models.generate_content(model=model, contents=contents, config=config)


def info(error: errors.APIError) -> dict:
    """The facts in the error's `google.rpc.ErrorInfo`."""
    [info] = [
        detail for detail in error.details["error"]["details"] if detail["@type"].endswith("ErrorInfo")
    ]
    return info["metadata"]


def refused(kind, status: int, code: str, word: str, tries: int = 1, served: int = 0, **options):
    """A row: `served` calls go through, the next one is refused after so many tries."""

    def row(token: str) -> list[int]:
        for _ in range(served):
            generate(token)
        error = raised_by(generate, token, **options)
        assert type(error) is kind, repr(error)
        assert (error.code, error.status) == (status, word), repr(error)
        assert info(error)["code"] == code, error.details
        return [tries, served]

    return row


def headroom(token: str) -> list[int]:
    error = raised_by(generate, token, bound=HUGE)
    assert type(error) is errors.ClientError, repr(error)
    assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED"), repr(error)
    facts = info(error)
    assert facts["code"] == "request_exceeds_headroom", facts
    fits = int(facts["largest_output_tokens_that_fit"])
    assert 64 < fits < HUGE and str(fits) in error.message, repr(error)
    generate(token, bound=fits)
    return [1, 1]


def wait(token: str) -> list[int]:
    # Told to try again, it goes by its own clock: three seconds, of which the gateway asks no more.
    generate(token)
    generate(token, retry=types.HttpRetryOptions(attempts=2, initial_delay=3.5, jitter=0))
    return [1, 2]


CLIENT, SERVER = errors.ClientError, errors.ServerError
DENIED = "PERMISSION_DENIED"
EXHAUSTED = "RESOURCE_EXHAUSTED"
ROWS = {
    "unauthenticated": refused(CLIENT, 401, "invalid_api_key", "UNAUTHENTICATED"),
    "not_allowed": refused(CLIENT, 403, "not_allowed", DENIED, model="gemini-2.5-pro"),
    "credential_denied": refused(CLIENT, 403, "credential_denied", DENIED),
    "model_not_priced": refused(CLIENT, 403, "model_not_priced", DENIED, model="acme-own-7"),
    "requests": refused(CLIENT, 429, "rate_limit_exceeded", EXHAUSTED, served=1),
    "tokens": refused(CLIENT, 429, "rate_limit_exceeded", EXHAUSTED, served=1),
    "concurrent": refused(CLIENT, 429, "rate_limit_exceeded", EXHAUSTED),
    "cap": refused(CLIENT, 429, "spend_limit_exceeded", EXHAUSTED),
    "malformed": refused(
        CLIENT,
        400,
        "invalid_field",
        "INVALID_ARGUMENT",
        more={"generationConfig": {"maxOutputTokens": "many"}},
    ),
    "too_large": refused(CLIENT, 413, "body_too_large", "INVALID_ARGUMENT", contents=TOO_LARGE),
    "unreachable": refused(SERVER, 502, "upstream_unreachable", "UNAVAILABLE", provider="down"),
    "headroom": headroom,
    "wait": wait,
}

if __name__ == "__main__":
    run(ROWS)
