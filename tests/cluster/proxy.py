"""A proxy between client and nodes that loses answers."""

import contextlib
import socket
import threading
from collections.abc import Callable


class Proxy:
    """Passes connections on to a node. Where `loses` says so, a request is passed on, and its answer is not."""

    def __init__(self, port: int, loses: Callable[[bytes], bool]):
        self._target = port
        self._loses = loses
        self.lost = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._target)) as node:
            while request := _message(client):
                node.sendall(request)
                answer = _message(node)
                if self._loses(request):
                    self.lost += 1
                    return
                client.sendall(answer)

    def close(self) -> None:
        self._server.close()


def _message(connection: socket.socket) -> bytes:
    """Receive a request or an answer as a whole; nothing when the connection ends."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return b""
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    if b"transfer-encoding: chunked" in lines:
        while not body.endswith(b"\r\n0\r\n\r\n") and body != b"0\r\n\r\n":
            body += connection.recv(65536)
    else:
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        while len(body) < length:
            body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
