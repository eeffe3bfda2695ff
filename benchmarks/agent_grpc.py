"""The peer of agent_roundtrip: one expert behind plain gRPC, raw bytes, no protobuf.

    python -m benchmarks.agent_grpc EXPERT.onnx HIDDEN_SIZE

prints its port and serves until its standard input closes.
"""

from __future__ import annotations

import sys
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np

from siftmoe.agent.providers import open_session

METHOD = "/siftmoe.Expert/Apply"
OPTIONS = [
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
]


def serve(path: Path, hidden_size: int) -> None:
    session = open_session(path, provider="cpu", threads=1)

    def apply(request: bytes, _: grpc.ServicerContext) -> bytes:
        hidden = np.frombuffer(request, np.float32).reshape(-1, hidden_size)
        return session.run(["output"], {"hidden": hidden})[0].tobytes()

    service, method = METHOD.strip("/").split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(apply)}
    server = grpc.server(futures.ThreadPoolExecutor(1), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0).wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
