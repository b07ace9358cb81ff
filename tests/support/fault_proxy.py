"""An HTTP/1.1 proxy on loopback, between sparekey and the sandbox, that does to each request what it is told to."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Literal
from urllib.parse import parse_qs, urlsplit

from sparekey.sandbox import Sandbox
from sparekey.sandbox.scenario import Stale

# The client gives up after so many seconds: an answer that comes later finds nobody.
TIMEOUT = 60.0
Kind = Literal[
    "fine", "throttled", "busy", "failed after", "gateway", "cut before", "cut after", "cut within", "late"
]


@dataclass(frozen=True)
class Fault:
    """What becomes of a request: the seconds on its way there and back, and how stale a read shall be."""

    kind: Kind = "fine"
    before_request: float = 0.0
    before_response: float = 0.0
    stale: float = 0.0


_NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"
# (before the server acts, status line, content type, body)
_ERROR = (
    f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>%s</Type><Code>%s</Code><Message>%s</Message></Error>'
    "<RequestId>none</RequestId></ErrorResponse>"
)
_REFUSED: dict[str, tuple[str, str, str]] = {
    "throttled": ("400 Bad Request", "text/xml", _ERROR % ("Sender", "Throttling", "Rate exceeded")),
    "busy": ("503 Service Unavailable", "text/xml", _ERROR % ("Receiver", "ServiceUnavailable", "Busy")),
    "failed after": ("500 Internal Server Error", "text/xml", _ERROR % ("Receiver", "ServiceFailure", "No")),
    "gateway": ("503 Service Unavailable", "text/html", "<html><h1>503</h1></html>"),
}
_ACTS = frozenset({"fine", "failed after", "cut after", "cut within", "late"})


class FaultProxy:
    """The proxy, in a thread of its own; one request at a time, so that a seed decides alike each time."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.decide: Callable[[str], Fault] = lambda _action: Fault()
        self.acted: Callable[[], None] = lambda: None
        self.log: list[tuple[str, Fault]] = []
        self.broken: list[BaseException] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, connection.makefile("rb") as reader:
                try:
                    while request := _message(reader):
                        answer, keep = self._handle(request)
                        connection.sendall(answer)
                        if not keep:
                            break
                except Exception as error:  # noqa: BLE001  # the player raises it
                    self.broken.append(error)

    def _handle(self, request: bytes) -> tuple[bytes, bool]:
        """The answer, or as much of it as comes through, and whether the connection is kept."""
        body = request.partition(b"\r\n\r\n")[2].decode()
        action = parse_qs(body).get("Action", [""])[0]
        fate = self.decide(action)
        self.log.append((action, fate))
        clock = self.sandbox.clock
        clock.advance(fate.before_request)
        answer = self._forward(request, fate) if fate.kind in _ACTS else b""
        clock.advance(TIMEOUT if fate.kind == "late" else fate.before_response)
        if fate.kind in _REFUSED:
            return _refusal(*_REFUSED[fate.kind]), True
        if fate.kind == "cut within":
            return answer[: len(answer) // 2], False
        return (answer, True) if fate.kind == "fine" else (b"", False)

    def _forward(self, request: bytes, fate: Fault) -> bytes:
        self.sandbox.state.faults = [Stale(seconds=fate.stale)] if fate.stale else []
        url = urlsplit(self.sandbox.url)
        with socket.create_connection((url.hostname, url.port)) as server, server.makefile("rb") as reader:
            server.sendall(request)
            answer = _message(reader)
        self.acted()
        return answer


def _message(reader: BinaryIO) -> bytes:
    """One message as it came, its body of the length that it names; empty where no more come."""
    head, length = b"", 0
    while (line := reader.readline()) not in (b"\r\n", b""):
        head += line
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return head and head + line + reader.read(length)


def _refusal(status: str, kind: str, body: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()
