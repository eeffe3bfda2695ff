"""Reference servers of agent_roundtrip: one expert served with raw bytes and nothing else.

    python -m benchmarks.agents.peers grpc|zeromq EXPERT.onnx HIDDEN_SIZE

prints its port and serves until its standard input closes. "zeromq" is the lower limit of ZeroMQ's
cost: one thread, no header, no checks, no deadline, and no reception while it computes.
"""

from __future__ import annotations

import sys
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import zmq

from siftmoe.agent.compute.providers import open_session

if TYPE_CHECKING:
    pass

METHOD = "/siftmoe.Expert/Apply"
OPTIONS = [
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
]

Compute = "Callable[[bytes], np.ndarray]"


def expert(path: Path, hidden_size: int) -> Compute:
    session = open_session(path, provider="cpu", threads=1)

    def compute(request: bytes) -> np.ndarray:
        hidden = np.frombuffer(request, np.float32).reshape(-1, hidden_size)
        return session.run(["output"], {"hidden": hidden})[0]

    return compute


def serve_grpc(compute: Compute) -> None:
    service, method = METHOD.strip("/").split("/")
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(lambda request, _: compute(request).tobytes())
    }
    server = grpc.server(futures.ThreadPoolExecutor(1), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0).wait()


def serve_zeromq(compute: Compute) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        print(router.bind_to_random_port("tcp://127.0.0.1"), flush=True)
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(sys.stdin, zmq.POLLIN)
        while router in dict(poller.poll()):
            while router.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                peer, request = router.recv_multipart()
                router.send(peer, zmq.SNDMORE)
                output = compute(request)
                router.send(output, copy=output.nbytes < 64 * 1024)


if __name__ == "__main__":
    kind, file, size = sys.argv[1:]
    {"grpc": serve_grpc, "zeromq": serve_zeromq}[kind](expert(Path(file), int(size)))
