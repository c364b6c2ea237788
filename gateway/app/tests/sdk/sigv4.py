"""What botocore's own signer makes of requests of many kinds, as JSON on standard output.

gateway/core/testdata/sigv4/botocore.json is this program's output.
"""

import datetime
import itertools
import json
import urllib.parse
from unittest import mock

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
AT = datetime.datetime(2026, 11, 24, 2, 30, 5, tzinfo=datetime.timezone.utc)
MODELS = [
    "anthropic.claude-3-haiku-20240307-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3",
    "plain",
]
PATHS = [
    *(f"/model/{urllib.parse.quote(model, safe='')}/converse" for model in MODELS),
    "/model/anthropic.claude-3-haiku-20240307-v1:0/invoke",
    "/", "/a//b", "/a/", "/a%20b/%C3%A9~-_.", "/a+b/c=d", "/%E2%98%83/snow%2Fman", "/x*y!(z)",
]
QUERIES = [None, "b=2&a=1", "a=%2F%3A&a=%20", "flag=", "Z=1&a=2&A=3", "max-keys=2&prefix=J"]
BODIES = ["", '{"messages":[{"role":"user","content":[{"text":"h\u00e9llo"}]}]}']


def one(path, query, body, token, service, region, headers, method="POST"):
    authority = f"{service}-runtime.{region}.amazonaws.com"
    url = f"https://{authority}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, data=body.encode(), headers=dict(headers))
    auth = SigV4Auth(Credentials("AKIDEXAMPLE", SECRET, token), service, region)
    request.headers["X-Amz-Content-SHA256"] = auth.payload(request)
    name = "get_current_datetime" if hasattr(__import__("botocore.auth").auth, "get_current_datetime") else None
    if name:
        with mock.patch(f"botocore.auth.{name}", lambda *a, **k: AT.replace(tzinfo=None)):
            auth.add_auth(request)
    else:
        with mock.patch("botocore.auth.datetime") as clock:
            clock.datetime.utcnow.return_value = AT.replace(tzinfo=None)
            auth.add_auth(request)
    return {
        "method": method, "authority": authority, "path": path, "query": query,
        "headers": headers, "body": body, "session_token": token, "service": service,
        "region": region, "at": int(AT.timestamp()), "authorization": request.headers["Authorization"],
    }


JSON_TYPE = [["content-type", "application/json"]]
vectors = [
    one(path, query, body, None, "bedrock", "us-east-1", JSON_TYPE)
    for path, query, body in itertools.product(PATHS, QUERIES, BODIES)
]
vectors += [
    one(PATHS[1], "x=1", BODIES[1], "IQoJb3JpZ2luX2VjE==", "bedrock", "eu-central-1", JSON_TYPE),
    one("/", None, "", "IQoJb3JpZ2luX2VjE==", "sts", "us-east-1", [], "GET"),
    one(PATHS[0], None, BODIES[1], None, "bedrock", "us-west-2",
        JSON_TYPE + [["x-amzn-bedrock-guardrailidentifier", "  g  1 "], ["x-amz-target", "A.b"]]),
]
print(json.dumps(vectors, indent=0))
