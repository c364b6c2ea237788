"""A collector of logs and spans over OTLP: the published messages, gRPC's own server and Python's.

Prints where it listens, then each request that it takes and the log records or spans in it, or only that it
was asked, as lines of JSON. The first argument is `grpc` or `http`; a certificate and its key may
follow. Obeys one command a line: `down`, `up`, `busy` (asks for a pause of a second), `take`. Ends
with its input.
"""

import base64
import copy
import json
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import (
    LogsServiceServicer,
    add_LogsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

PRINTING = threading.Lock()
STATE = {"busy": False, "down": False}
PAUSE_SECONDS = 1


def say(*values):
    with PRINTING:
        for value in values:
            print(json.dumps(value))
        sys.stdout.flush()


def plain(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(element) for element in value.array_value.values]
    if kind == "kvlist_value":
        return members(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


def members(pairs):
    names = [pair.key for pair in pairs]
    assert len(names) == len(set(names)), f"a name stands there twice: {names}"
    return {pair.key: plain(pair.value) for pair in pairs}


def refused():
    """Whether it is too busy, which it says then."""
    if STATE["busy"]:
        say({"kind": "busy", "at": time.monotonic()})
    return STATE["busy"]


def understood(request, headers):
    known = copy.deepcopy(request)
    known.DiscardUnknownFields()
    assert known.ByteSize() == request.ByteSize(), "there is more than the messages have"
    raw = base64.b64encode(request.SerializeToString()).decode()
    return {"kind": "request", "raw": raw, "headers": headers}


def take_spans(request, headers):
    spans = [understood(request, headers)]
    for resource in request.resource_spans:
        of = members(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                assert span.start_time_unix_nano <= span.end_time_unix_nano
                spans.append(
                    {
                        "kind": "span",
                        "resource": of,
                        "schema": resource.schema_url,
                        "attributes": members(span.attributes),
                        "name": span.name,
                        "span_kind": span.kind,
                        "trace": span.trace_id.hex(),
                        "span": span.span_id.hex(),
                        "parent": span.parent_span_id.hex(),
                        "flags": span.flags,
                        "status": span.status.code,
                        "key": headers.get("x-api-key"),
                    }
                )
    say(*spans)


def take(request, headers):
    records = [understood(request, headers)]
    for resource in request.resource_logs:
        of = members(resource.resource.attributes)
        for scope in resource.scope_logs:
            for record in scope.log_records:
                records.append(
                    {
                        "kind": "record",
                        "resource": of,
                        "schema": resource.schema_url,
                        "scope": [scope.scope.name, scope.scope.version, scope.schema_url],
                        "attributes": members(record.attributes),
                        "body": record.HasField("body"),
                        "severity": record.severity_text,
                        "severity_number": record.severity_number,
                        "event": record.event_name,
                        "time": record.time_unix_nano,
                        "trace": record.trace_id.hex(),
                        "span": record.span_id.hex(),
                        "key": headers.get("x-api-key"),
                    }
                )
    say(*records)


def asked_to_wait():
    """A `google.rpc.Status` (code 14) whose only detail is a `RetryInfo`."""
    delay = Duration(seconds=PAUSE_SECONDS).SerializeToString()
    info = b"\x0a" + bytes([len(delay)]) + delay
    detail = Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=info)
    detail = detail.SerializeToString()
    return b"\x08\x0e\x1a" + bytes([len(detail)]) + detail


class Logs(LogsServiceServicer):
    def Export(self, request, context):
        if refused():
            context.set_trailing_metadata([("grpc-status-details-bin", asked_to_wait())])
            context.abort(grpc.StatusCode.UNAVAILABLE, "too busy")
        take(request, dict(context.invocation_metadata()))
        return ExportLogsServiceResponse()


class Traces(TraceServiceServicer):
    def Export(self, request, context):
        take_spans(request, dict(context.invocation_metadata()))
        return ExportTraceServiceResponse()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if STATE["down"]:
            # A connection from before.
            self.close_connection = True
            return
        status = 200
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers["content-type"] != "application/x-protobuf":
            status = 400
        elif self.path == "/v1/traces":
            request = ExportTraceServiceRequest()
            request.ParseFromString(body)
            take_spans(request, headers)
        elif self.path != "/v1/logs":
            status = 400
        elif refused():
            status = 429
        else:
            request = ExportLogsServiceRequest()
            request.ParseFromString(body)
            take(request, headers)
        answer = ExportLogsServiceResponse().SerializeToString()
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        if status == 429:
            self.send_header("retry-after", str(PAUSE_SECONDS))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Server:
    def __init__(self, protocol, pair):
        self.protocol = protocol
        self.pair = pair
        self.port = 0
        self.up()

    def up(self):
        STATE["down"] = False
        start = self.start_grpc if self.protocol == "grpc" else self.start_http
        start()

    def down(self):
        STATE["down"] = True
        self.stop()

    def start_grpc(self):
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        add_LogsServiceServicer_to_server(Logs(), server)
        add_TraceServiceServicer_to_server(Traces(), server)
        at = f"127.0.0.1:{self.port}"
        if self.pair:
            certificate, key = (open(file, "rb").read() for file in self.pair)
            secured = grpc.ssl_server_credentials([(key, certificate)])
            self.port = server.add_secure_port(at, secured)
        else:
            self.port = server.add_insecure_port(at)
        server.start()
        self.stop = lambda: server.stop(None).wait()

    def start_http(self):
        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        if self.pair:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*self.pair)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

        def stop():
            server.shutdown()
            server.server_close()

        self.stop = stop


def main():
    server = Server(sys.argv[1], sys.argv[2:4])
    say({"port": server.port})
    for line in sys.stdin:
        command = line.strip()
        if command in ("down", "up"):
            getattr(server, command)()
        else:
            STATE["busy"] = command == "busy"
        say({"kind": "did", "what": command})
    server.stop()


main()
