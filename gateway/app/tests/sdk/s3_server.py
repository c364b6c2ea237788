"""A real S3 API on loopback (moto), with object lock, IAM and checked signatures.

Says in one line of JSON where it is and who may write, then obeys one command a line, each a JSON
object, and answers each with one. Ends with its input. What is asked of the store by the tests
goes through boto3, as any other client's requests do.
"""

import base64
import json
import logging
import sys
import threading

import boto3
import requests
from botocore.exceptions import ClientError
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
APP = DomainDispatcherApplication(create_backend_app)
REGION = "eu-central-1"


class Server:
    """Listens, or does not; what is stored outlives both."""

    def __init__(self):
        self.port = 0
        self.up()

    def up(self):
        self.server = make_server("127.0.0.1", self.port, APP, threaded=True)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def down(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


server = Server()
url = f"http://127.0.0.1:{server.port}"


def client(service, key, secret):
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


def user(name, statements):
    """A user with a key of its own who may do what `statements` say."""
    iam = client("iam", "nobody", "nothing")
    iam.create_user(UserName=name)
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


EVERYTHING = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
WRITER = [
    {
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:PutObjectRetention", "s3:GetObject", "s3:ListBucket"],
        "Resource": ["arn:aws:s3:::records", "arn:aws:s3:::records/*"],
    }
]
READER = [
    {
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::records/some/prefix/audit/acme/*",
    }
]
lock = sys.argv[1] == "lock"
root = client("s3", *user("root", EVERYTHING))
writer = user("gateway", WRITER)
reader = client("s3", *user("reader", READER))
# From here on every signature is checked, and every permission.
requests.post(url + "/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
root.create_bucket(
    Bucket="records",
    ObjectLockEnabledForBucket=lock,
    CreateBucketConfiguration={"LocationConstraint": REGION},
)


def objects(_):
    """Every version of every object, with its content and how it is held."""
    found = []
    for page in root.get_paginator("list_object_versions").paginate(Bucket="records"):
        for version in page.get("Versions", []):
            which = {"Bucket": "records", "Key": version["Key"]}
            if version["VersionId"] != "null":
                which["VersionId"] = version["VersionId"]
            got = root.get_object(**which)
            until = got.get("ObjectLockRetainUntilDate")
            found.append(
                {
                    "key": version["Key"],
                    "version": version["VersionId"],
                    "body": base64.b64encode(got["Body"].read()).decode(),
                    "mode": got.get("ObjectLockMode"),
                    "until": until and until.strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
            )
    return {"objects": found}


def put(ask):
    """An overwrite, as by somebody with all permissions."""
    root.put_object(Bucket="records", Key=ask["key"], Body=ask["text"].encode())
    return {}


def delete(ask):
    """One version, for good."""
    root.delete_object(Bucket="records", Key=ask["key"], VersionId=ask["version"])
    return {}


def read(ask):
    """As somebody who may read acme's prefix and nothing else."""
    got = reader.get_object(Bucket="records", Key=ask["key"])
    return {"length": len(got["Body"].read())}


def down(_):
    server.down()
    return {}


def up(_):
    server.up()
    return {}


COMMANDS = {"objects": objects, "put": put, "delete": delete, "read": read, "down": down, "up": up}

print(json.dumps({"url": url, "key": writer[0], "secret": writer[1]}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    try:
        answer = COMMANDS[asked["do"]](asked)
    except ClientError as error:
        answer = {"error": error.response["Error"]["Code"]}
    print(json.dumps(answer), flush=True)
