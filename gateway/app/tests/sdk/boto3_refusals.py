"""What `boto3`, unmodified, makes of every refusal on its way to Bedrock. See refusals.py.

It tries again after every 429 and most 5xx, three times in all, and by its own clock. A cap is
therefore answered with 400, which it takes for final.
"""

import json
import os
import threading

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from refusals import HUGE, TOO_LARGE, URL, raised_by, run

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
#: The bearer token is read from the environment when a client is made.
ENVIRONMENT = threading.Lock()


def converse(
    token: str,
    provider: str = "bedrock",
    model: str = MODEL,
    text: str = "Say something.",
    bound=64,
    tries: int | None = None,
):
    retries = {} if tries is None else {"retries": {"total_max_attempts": tries}}
    with ENVIRONMENT:
        os.environ["AWS_BEARER_TOKEN_BEDROCK"] = token
        client = boto3.session.Session().client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=f"{URL}/{provider}",
            config=Config(parameter_validation=False, **retries),
        )
    return client.converse(
        modelId=model,
        messages=[{"role": "user", "content": [{"text": text}]}],
        inferenceConfig={"maxTokens": bound},
    )


def refused(name: str, status: int, code: str, tries: int = 1, served: int = 0, **options):
    """A row: `served` calls go through, the next one is refused after so many tries."""

    def row(token: str) -> list[int]:
        for _ in range(served):
            converse(token)
        error = raised_by(converse, token, **options)
        assert isinstance(error, ClientError), repr(error)
        # The class is the service's own where its model lists the exception, else the general one.
        assert type(error).__name__ in (name, "ClientError"), repr(error)
        meta = error.response["ResponseMetadata"]
        assert error.response["Error"]["Code"] == name, error.response
        assert meta["HTTPStatusCode"] == status, error.response
        assert meta["HTTPHeaders"]["x-tollgate-error"] == code, error.response
        assert meta["RetryAttempts"] == tries - 1, error.response
        return [tries, served]

    return row


def headroom(token: str) -> list[int]:
    error = raised_by(converse, token, bound=HUGE)
    assert type(error).__name__ == "ServiceQuotaExceededException", repr(error)
    headers = error.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-tollgate-error"] == "request_exceeds_headroom", headers
    facts = json.loads(headers["x-tollgate-facts"])
    fits = facts["largest_output_tokens_that_fit"]
    assert 64 < fits < HUGE and str(fits) in error.response["Error"]["Message"], error.response
    converse(token, bound=fits)
    return [1, 1]


DENIED, THROTTLED = "AccessDeniedException", "ThrottlingException"
ROWS = {
    "unauthenticated": refused("UnrecognizedClientException", 403, "invalid_api_key"),
    "not_allowed": refused(DENIED, 403, "not_allowed", model="anthropic.claude-opus-4-20250514-v1:0"),
    "credential_denied": refused(DENIED, 403, "credential_denied"),
    "model_not_priced": refused(DENIED, 403, "model_not_priced", model="acme-own-7"),
    "requests": refused(THROTTLED, 429, "rate_limit_exceeded", tries=3, served=1),
    "tokens": refused(THROTTLED, 429, "rate_limit_exceeded", tries=3, served=1),
    "concurrent": refused(THROTTLED, 429, "rate_limit_exceeded", tries=3),
    "cap": refused("ServiceQuotaExceededException", 400, "spend_limit_exceeded"),
    "malformed": refused("ValidationException", 400, "invalid_field", bound="many"),
    "too_large": refused("ValidationException", 413, "body_too_large", text=TOO_LARGE),
    "unreachable": refused(
        "ServiceUnavailableException", 502, "upstream_unreachable", tries=3, provider="down"
    ),
    "headroom": headroom,
}

if __name__ == "__main__":
    run(ROWS)
