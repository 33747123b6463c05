"""Serves the stand-in, as `python -m standin`, until the Pulumi CLI that started it ends."""

import os
import sys
import threading
from concurrent import futures

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from .provider import Provider


def main() -> None:
    """Prints the port that it listens on, which the CLI reads."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Provider(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # the CLI kills its plugins; if it is killed itself, this ends, too
        threading.Event().wait(2)
    sys.exit(0)


if __name__ == "__main__":
    main()
