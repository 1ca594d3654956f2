"""Real servers on loopback that behave badly, and clients that may or may not call them."""

import socket
import threading

import pytest

from outbound import Client, Limits, Policy


class RawServer:
    """Answers every connection with `speak(connection, request)`; counts connections and keeps requests."""

    def __init__(self, speak, wrap=None, at=("127.0.0.1", 0)):
        self._speak, self._wrap = speak, wrap
        self.connections = 0
        self.requests = []
        self._listener = socket.create_server(at)
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}/"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        with connection:
            connection.settimeout(10)
            try:
                secured = self._wrap(connection) if self._wrap else connection
                with secured:
                    while request := self._request(secured):
                        self.requests.append(request)
                        if not self._speak(secured, request):
                            return
            except OSError:
                return

    def _request(self, connection):
        """Head and body of the next request as text; empty at the end."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = connection.recv(65536)
            if not chunk:
                return ""
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        return (head + b"\r\n\r\n" + body).decode("latin-1")

    def close(self):
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for thread in self._threads:
            thread.join(15)


def answer(body=b"", status="200 OK", **headers):
    """A whole reply; the connection stays open."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
def serve():
    """Start servers that speak as the test says, with a function or with bytes; stopped afterwards."""
    running = []

    def start(speak, **kwargs):
        if isinstance(speak, bytes):
            reply = speak

            def speak(connection, _request):
                connection.sendall(reply)
                return True

        running.append(RawServer(speak, **kwargs))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.fixture
def canary(serve):
    """A listener that nobody may reach."""
    server = serve(answer(b"secret of the inside"))
    yield server
    assert server.connections == 0


@pytest.fixture
def client_for():
    """Make clients; `allow` is a list as in CARDKEY_OUTBOUND_ALLOW."""
    made = []

    def make(*allow):
        made.append(Client(Policy.parse(",".join(allow))))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def limits():
    """Small, and patient enough for a busy machine."""
    return Limits(deadline=10, connect=5, max_bytes=64 * 1024)
