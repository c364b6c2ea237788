"""A collector of logs over OTLP: the published messages, gRPC's own server and Python's.

Prints where it listens, then each log record that it takes as a line of JSON. `grpc` or `http` is
the first argument. Ends with its input.
"""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import (
    LogsServiceServicer,
    add_LogsServiceServicer_to_server,
)

PRINTING = threading.Lock()


def say(value):
    with PRINTING:
        print(json.dumps(value), flush=True)


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


def take(request, headers):
    for resource in request.resource_logs:
        of = members(resource.resource.attributes)
        for scope in resource.scope_logs:
            for record in scope.log_records:
                say(
                    {
                        "resource": of,
                        "schema": resource.schema_url,
                        "attributes": members(record.attributes),
                        "severity": record.severity_text,
                        "severity_number": record.severity_number,
                        "event": record.event_name,
                        "time": record.time_unix_nano,
                        "trace": record.trace_id.hex(),
                        "span": record.span_id.hex(),
                        "key": headers.get("x-api-key"),
                    }
                )


class Logs(LogsServiceServicer):
    def Export(self, request, context):
        take(request, dict(context.invocation_metadata()))
        return ExportLogsServiceResponse()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        good = self.path == "/v1/logs" and self.headers["content-type"] == "application/x-protobuf"
        if good:
            request = ExportLogsServiceRequest()
            request.ParseFromString(body)
            take(request, {name.lower(): value for name, value in self.headers.items()})
        answer = ExportLogsServiceResponse().SerializeToString()
        self.send_response(200 if good else 400)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def main():
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if sys.argv[1] == "grpc":
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        add_LogsServiceServicer_to_server(Logs(), server)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        stop = lambda: server.stop(None).wait()
    else:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stop = server.shutdown
    say({"port": port})
    sys.stdin.read()
    stop()


main()
