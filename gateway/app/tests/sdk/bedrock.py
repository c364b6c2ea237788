"""`boto3`, unmodified, calling Bedrock through a running gateway.

Usage: bedrock.py plain|stream
Reads TOLLGATE_URL (the gateway's root, with https) and TASK_TOKEN, which goes where boto3 takes
API keys for Bedrock; exits non-zero at the first surprise.
"""

import json
import os
import sys

import boto3

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
ASK = {
    "modelId": MODEL,
    "messages": [{"role": "user", "content": [{"text": "Say something."}]}],
    "inferenceConfig": {"maxTokens": 64},
}
INVOKE = {
    "modelId": MODEL,
    "body": json.dumps(
        {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "Say something."}],
        }
    ),
}

os.environ["AWS_BEARER_TOKEN_BEDROCK"] = os.environ["TASK_TOKEN"]
client = boto3.client(
    "bedrock-runtime", region_name="us-east-1", endpoint_url=os.environ["TOLLGATE_URL"] + "/bedrock"
)


def plain() -> None:
    answer = client.converse(**ASK)
    assert answer["output"]["message"]["content"][0]["text"], answer
    assert answer["usage"]["inputTokens"] > 0 and answer["usage"]["outputTokens"] > 0, answer
    answer = json.loads(client.invoke_model(**INVOKE)["body"].read())
    assert answer["type"] == "message" and answer["usage"]["output_tokens"] > 0, answer


def stream() -> None:
    # boto3 checks both checksums of every frame.
    events = list(client.converse_stream(**ASK)["stream"])
    assert "messageStart" in events[0], events[0]
    assert events[-1]["metadata"]["usage"]["outputTokens"] > 0, events[-1]
    chunks = list(client.invoke_model_with_response_stream(**INVOKE)["body"])
    last = json.loads(chunks[-1]["chunk"]["bytes"])
    assert last["amazon-bedrock-invocationMetrics"]["outputTokenCount"] > 0, last


MODES = {"plain": plain, "stream": stream}

if __name__ == "__main__":
    MODES[sys.argv[1]]()
