"""HTTP/1.1 over kept connections: one pool and one TLS context for every account.

botocore's own HTTP session costs about 0.5 ms of CPU per call and loads its CA bundle for each new
connection; a POST of a few bytes needs far less. It bounds neither the time nor the size of a whole answer;
here every answer has both bounds, whatever the other side sends (docs/adr/0026).
"""

import re
import select
import threading
import time
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

import msgspec

from sparekey.aws.endpoints import ByteStream, Route, RouteTable, reason

# botocore's read time-out, here of the whole answer.
# https://docs.aws.amazon.com/cli/latest/topic/config-vars.html
_SECONDS = 60.0
# A credential report of 5,000 users, IAM's quota, is about 2.5 MB in base64; a page of 1,000 users 0.5 MB.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
_MAX_BODY = 16 << 20
_HEAD = 1 << 16  # bytes: the longest head, chunk line or trailer
_INTERIM = 16  # answers such as 100 Continue before the answer itself
_CHUNK = 1 << 16

_STATUS = re.compile(r"HTTP/1\.([01]) ([1-5]\d\d)(?: [^\r\n\0]*)?", re.ASCII)
# Names are tokens of RFC 9110, 5.6.2; a value has no line break, so that nobody reads two headers into one.
_HEADERS = re.compile(r"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*)*")
_CLOSE = re.compile(r"(?:^|,)[ \t]*close[ \t]*(?:,|$)", re.IGNORECASE)
_ENDED = "the connection was closed before the end of the answer"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?")
_FRAMING = frozenset({"content-length", "transfer-encoding", "content-encoding"})
_NO_BODY = frozenset({204, 304})
_SWITCHING_PROTOCOLS = 101


class HttpRequest(msgspec.Struct, frozen=True, gc=False):
    """One signed request."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class HttpResponse(msgspec.Struct, frozen=True, gc=False):
    """One whole answer; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


Send = Callable[[HttpRequest], HttpResponse]


class ConnectionLostError(Exception):
    """No whole answer came; `sent` is whether AWS may have acted on the request."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class HttpPool:
    """Sends requests; thread-safe. An answer may take `seconds` and have a body of `largest` bytes."""

    def __init__(
        self, ca_bundle: str | None = None, *, seconds: float = _SECONDS, largest: int = _MAX_BODY
    ) -> None:
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[_Connection]] = {}
        self._routes = RouteTable(ca_bundle)
        self._seconds = seconds
        self._largest = largest

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send and wait for the whole answer; raises ConnectionLostError."""
        url = urlsplit(request.url)
        try:
            route = self._routes.route(url)
            message = _request_bytes(request, url, route)
            connection = self._connection(url)
        except (OSError, ValueError) as error:
            raise ConnectionLostError(f"{_host_and_path(url)}: {reason(error)}", sent=False) from error
        try:
            response = connection.exchange(message)
        except (OSError, ValueError) as error:
            connection.close()
            late = isinstance(error, TimeoutError)
            why_failed = f"no whole answer within {self._seconds:g} seconds" if late else reason(error)
            raise ConnectionLostError(f"{_host_and_path(url)}: {why_failed}", sent=True) from error
        if connection.reusable:
            with self._lock:
                self._idle.setdefault((url.scheme, url.netloc), []).append(connection)
        else:
            connection.close()
        return response

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()

    def _connection(self, url: SplitResult) -> "_Connection":
        while True:
            with self._lock:
                idle = self._idle.get((url.scheme, url.netloc))
                connection = idle.pop() if idle else None
            if connection is None:
                stream = self._routes.open(url, self._seconds)
                return _Connection(stream, self._seconds, self._largest)
            if connection.alive():
                return connection
            connection.close()


class _Connection:
    """One kept connection, used by one thread at a time."""

    def __init__(self, stream: ByteStream, seconds: float, largest: int) -> None:
        self._stream = stream
        self._seconds = seconds
        self._largest = largest
        self._buffer, self._position = b"", 0  # what was received, and how far it is read
        self._close_time = 0.0
        self._deadline_set = False
        self._poll = select.poll()
        self._poll.register(stream.fileno(), select.POLLIN)
        self.reusable = False

    def alive(self) -> bool:
        """False where the other side has closed it or sent more: an idle connection has nothing to say."""
        pending = getattr(self._stream, "pending", None)
        return not (pending and pending()) and not self._poll.poll(0)

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def exchange(self, message: bytes) -> HttpResponse:
        """Send one request and read its answer; raises OSError or ValueError."""
        self.reusable = False
        self._close_time = time.monotonic() + self._seconds
        self._stream.sendall(message)
        for _ in range(_INTERIM):
            kept, status, headers = self._read_head()
            if status >= 200 or status == _SWITCHING_PROTOCOLS:
                break
        else:
            raise ValueError("interim answers without an end")
        if status == _SWITCHING_PROTOCOLS:
            raise ValueError("the other side wants to speak something else than HTTP")
        bare = status in _NO_BODY and "transfer-encoding" not in headers
        framed = bare or "content-length" in headers or "transfer-encoding" in headers
        body = b"" if bare else self._read_body(headers)
        if self._deadline_set:
            self._stream.settimeout(self._seconds)
            self._deadline_set = False
        closes = "connection" in headers and bool(_CLOSE.search(headers["connection"]))
        self.reusable = self._position == len(self._buffer) and kept and framed and not closes
        return HttpResponse(status, headers, body)

    def _read_head(self) -> tuple[bool, int, dict[str, str]]:
        """Whether the other side speaks HTTP/1.1, and so keeps connections; the status; the headers."""
        head = self._read_until(b"\r\n\r\n").decode("latin-1")
        match = _STATUS.match(head)
        if not match:
            raise ValueError("the answer is not HTTP/1.1")
        if not _HEADERS.fullmatch(head, match.end()):
            raise ValueError("the answer has a header that is none")
        headers: dict[str, str] = {}
        for line in head.split("\r\n")[1:]:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip(" \t")
            if name not in headers:
                headers[name] = value
            elif name not in _FRAMING:
                headers[name] += f", {value}"
            elif headers[name] != value:
                raise ValueError(f"the answer has two headers {name}")
        return match[1] == "1", int(match[2]), headers

    def _read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ValueError("the response is compressed, which was not requested")
        if "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked" or "content-length" in headers:
                raise ValueError("the answer's length is stated in two ways, or in one that is not known")
            return self._read_chunks()
        if "content-length" in headers:
            length = headers["content-length"]
            if not (length.isascii() and length.isdigit() and len(length) <= 20):
                raise ValueError("the answer has a length that is none")
            return self._read_exactly(self._allowed(int(length)))
        parts = [self._buffer[self._position :]]
        self._position, size = len(self._buffer), len(parts[0])
        while part := self._receive(_CHUNK):
            parts.append(part)
            size = self._allowed(size + len(part))
        return b"".join(parts)

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while True:
            match = _SIZE.fullmatch(self._read_until(b"\r\n"))
            if not match:
                raise ValueError("the answer's chunks do not fit")
            size = int(match[1], 16)
            if not size:
                break
            self._allowed(len(body) + size)
            body += self._read_exactly(size)
            if self._read_exactly(2) != b"\r\n":
                raise ValueError("the answer's chunks do not fit")
        left = _HEAD
        while line := self._read_until(b"\r\n"):  # trailers
            left -= len(line) + 2
            if left < 0:
                raise ValueError("the answer's trailers are too long")
        return bytes(body)

    def _allowed(self, size: int) -> int:
        if size > self._largest:
            raise ValueError(f"the answer is larger than {self._largest:,} bytes")
        return size

    def _read_until(self, end: bytes) -> bytes:
        """What comes before `end`, which is passed over, too."""
        seen = self._position
        while (at := self._buffer.find(end, seen)) < 0:
            unseen = len(self._buffer) - self._position
            if unseen > _HEAD:
                raise ValueError("the answer's head is too long")
            self._receive_more()
            seen = max(0, unseen - len(end))
        if at - self._position > _HEAD:
            raise ValueError("the answer's head is too long")
        part = self._buffer[self._position : at]
        self._position = at + len(end)
        return part

    def _read_exactly(self, size: int) -> bytes:
        """So many bytes."""
        have = self._buffer[self._position : self._position + size]
        self._position += len(have)
        if len(have) == size:
            return have
        parts, missing = [have], size - len(have)
        while missing:
            part = self._receive(min(missing, 1 << 20))
            if not part:
                raise ConnectionResetError(_ENDED)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _receive_more(self) -> None:
        part = self._receive(_CHUNK)
        if not part:
            raise ConnectionResetError(_ENDED)
        self._buffer = self._buffer[self._position :] + part
        self._position = 0

    def _receive(self, size: int) -> bytes:
        """What has come, before the time for the whole answer is up; raises TimeoutError after it."""
        left = self._close_time - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        if left < 0.9 * self._seconds:  # most answers are here long before, and need no such call
            self._stream.settimeout(left)
            self._deadline_set = True
        return self._stream.recv(size)


def _request_bytes(request: HttpRequest, url: SplitResult, route: Route) -> bytes:
    """The request as it is sent; raises ValueError where a header would become another one."""
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = {**request.headers, **route.headers} if route.prefix else request.headers
    lines = [f"{request.method} {route.prefix}{path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(request.body)}")
    text = "\r\n".join(lines)
    breaks = len(lines) - 1
    if not text.isascii() or text.count("\n") != breaks or text.count("\r") != breaks:
        raise ValueError("a header of the request would hold a line break or a character that is not ASCII")
    return text.encode() + b"\r\n\r\n" + request.body


def _host_and_path(url: SplitResult) -> str:
    """Host and port, without the name and password that a URL may hold."""
    return url.netloc.rpartition("@")[2]
