"""What the `anthropic` Python SDK, unmodified, makes of every refusal. See refusals.py."""

import anthropic

from refusals import HUGE, TOO_LARGE, URL, raised_by, run

ASK = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Say something."}],
}


def create(
    token: str, provider: str = "anthropic", retries: int = anthropic.DEFAULT_MAX_RETRIES, **changes
):
    client = anthropic.Anthropic(base_url=f"{URL}/{provider}", api_key=token, max_retries=retries)
    # A timeout of its own keeps the SDK from refusing huge bounds itself.
    return client.messages.create(**(ASK | changes), timeout=60)


def refused(kind, status: int, code: str, type_: str, tries: int = 1, served: int = 0, **options):
    """A row: `served` calls go through, the next one is refused after so many tries."""

    def row(token: str) -> list[int]:
        for _ in range(served):
            create(token)
        error = raised_by(create, token, **options)
        assert type(error) is kind, repr(error)
        assert error.status_code == status, repr(error)
        assert error.body["error"]["type"] == type_, error.body
        assert error.body["error"]["code"] == code, error.body
        assert error.response.headers["x-tollgate-error"] == code, error.response.headers
        return [tries, served]

    return row


def headroom(token: str) -> list[int]:
    error = raised_by(create, token, max_tokens=HUGE)
    assert type(error) is anthropic.RateLimitError and error.status_code == 429, repr(error)
    facts = error.body["error"]["tollgate"]
    fits = facts["largest_output_tokens_that_fit"]
    assert 64 < fits < HUGE and str(fits) in error.body["error"]["message"], error.body
    create(token, max_tokens=fits)
    return [1, 1]


def wait(token: str) -> list[int]:
    # The second call is told when to come again; the SDK waits so long and is served.
    create(token)
    create(token)
    return [1, 2]


DENIED = anthropic.PermissionDeniedError
ROWS = {
    "unauthenticated": refused(
        anthropic.AuthenticationError, 401, "invalid_api_key", "authentication_error"
    ),
    "not_allowed": refused(DENIED, 403, "not_allowed", "permission_error", model="claude-opus-4-5"),
    "credential_denied": refused(DENIED, 403, "credential_denied", "permission_error"),
    "model_not_priced": refused(
        DENIED, 403, "model_not_priced", "permission_error", model="acme-own-7"
    ),
    # Asking again would wait a minute, as told.
    "requests": refused(
        anthropic.RateLimitError, 429, "rate_limit_exceeded", "rate_limit_error", served=1, retries=0
    ),
    "tokens": refused(
        anthropic.RateLimitError, 429, "rate_limit_exceeded", "rate_limit_error", served=1, retries=0
    ),
    "concurrent": refused(
        anthropic.RateLimitError, 429, "rate_limit_exceeded", "rate_limit_error", tries=3
    ),
    "cap": refused(anthropic.RateLimitError, 429, "spend_limit_exceeded", "rate_limit_error"),
    "malformed": refused(
        anthropic.BadRequestError, 400, "invalid_field", "invalid_request_error", max_tokens="many"
    ),
    "too_large": refused(
        anthropic.RequestTooLargeError,
        413,
        "body_too_large",
        "request_too_large",
        messages=[{"role": "user", "content": TOO_LARGE}],
    ),
    "unreachable": refused(
        anthropic.InternalServerError, 502, "upstream_unreachable", "api_error", tries=3, provider="down"
    ),
    "headroom": headroom,
    "wait": wait,
}

if __name__ == "__main__":
    run(ROWS)
