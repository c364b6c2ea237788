"""What the `openai` Python SDK, unmodified, makes of every refusal. See refusals.py."""

import openai

from refusals import HUGE, TOO_LARGE, URL, raised_by, run

ASK = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Say something."}],
    "max_tokens": 64,
}


def create(token: str, provider: str = "openai", retries: int = openai.DEFAULT_MAX_RETRIES, **changes):
    client = openai.OpenAI(base_url=f"{URL}/{provider}/v1", api_key=token, max_retries=retries)
    return client.chat.completions.create(**(ASK | changes))


def refused(kind, status: int, code: str, type_: str, tries: int = 1, served: int = 0, **options):
    """A row: `served` calls go through, the next one is refused after so many tries."""

    def row(token: str) -> list[int]:
        for _ in range(served):
            create(token)
        error = raised_by(create, token, **options)
        assert type(error) is kind, repr(error)
        assert error.status_code == status, repr(error)
        assert (error.code, error.type) == (code, type_), error.body
        assert error.response.headers["x-tollgate-error"] == code, error.response.headers
        return [tries, served]

    return row


def headroom(token: str) -> list[int]:
    error = raised_by(create, token, max_tokens=HUGE)
    assert type(error) is openai.RateLimitError and error.status_code == 429, repr(error)
    assert (error.code, error.type) == ("request_exceeds_headroom", "insufficient_quota"), error.body
    fits = error.body["tollgate"]["largest_output_tokens_that_fit"]
    assert 64 < fits < HUGE and str(fits) in error.message, error.body
    create(token, max_tokens=fits)
    return [1, 1]


def wait(token: str) -> list[int]:
    # The second call is told when to come again; the SDK waits so long and is served.
    create(token)
    create(token)
    return [1, 2]


INVALID = "invalid_request_error"
ROWS = {
    "unauthenticated": refused(openai.AuthenticationError, 401, "invalid_api_key", INVALID),
    "not_allowed": refused(openai.PermissionDeniedError, 403, "not_allowed", INVALID, model="gpt-4o"),
    "credential_denied": refused(openai.PermissionDeniedError, 403, "credential_denied", INVALID),
    "model_not_priced": refused(
        openai.PermissionDeniedError, 403, "model_not_priced", INVALID, model="acme-own-7"
    ),
    # Asking again would wait a minute, as told.
    "requests": refused(
        openai.RateLimitError, 429, "rate_limit_exceeded", "requests", served=1, retries=0
    ),
    "tokens": refused(
        openai.RateLimitError, 429, "rate_limit_exceeded", "tokens", served=1, retries=0
    ),
    "concurrent": refused(openai.RateLimitError, 429, "rate_limit_exceeded", "requests", tries=3),
    "cap": refused(openai.RateLimitError, 429, "spend_limit_exceeded", "insufficient_quota"),
    "malformed": refused(openai.BadRequestError, 400, "invalid_field", INVALID, max_tokens="many"),
    "too_large": refused(
        openai.APIStatusError,
        413,
        "body_too_large",
        INVALID,
        messages=[{"role": "user", "content": TOO_LARGE}],
    ),
    "unreachable": refused(
        openai.InternalServerError, 502, "upstream_unreachable", "server_error", tries=3, provider="down"
    ),
    "headroom": headroom,
    "wait": wait,
}

if __name__ == "__main__":
    run(ROWS)
