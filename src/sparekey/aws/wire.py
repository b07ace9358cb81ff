"""HTTP/1.1 over kept connections: one pool and one TLS context for every account.

botocore's own HTTP session costs about 0.5 ms of CPU per call and loads its CA bundle for each new
connection; a POST of a few bytes needs far less. Through a proxy botocore's session is used all the same: a
proxy costs more than the difference, and its rules are many.
"""

import http.client
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

import msgspec
from botocore import exceptions as boto
from botocore.awsrequest import AWSPreparedRequest
from botocore.httpsession import URLLib3Session, get_cert_path
from botocore.utils import get_environ_proxies

_CONNECT_TIMEOUT = 10.0
_TIMEOUT = struct.pack("ll", 60, 0)  # a timeval
_FRESH = 1.0  # seconds: a connection idle for longer may have been closed by the other side
_CHUNK = 65536


class Request(msgspec.Struct, frozen=True, gc=False):
    """One signed request."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class Response(msgspec.Struct, frozen=True, gc=False):
    """One whole answer; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


Send = Callable[[Request], Response]


class CutError(Exception):
    """No whole answer came; `sent` says whether AWS may have acted on the request."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Wire:
    """Sends requests; thread-safe."""

    def __init__(self, ca_bundle: str | None = None) -> None:
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[_Connection]] = {}
        self._tls: ssl.SSLContext | None = None
        self._ca_bundle = ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE")  # as botocore does
        self._proxied: dict[str, URLLib3Session | None] = {}

    def send(self, request: Request) -> Response:
        """Send and wait for the whole answer; raises CutError."""
        url = urlsplit(request.url)
        proxied = self._by_proxy(url)
        if proxied is not None:
            return _send_by_botocore(proxied, request)
        connection = self._connection(url)
        try:
            response = connection.exchange(request, url)
        except (OSError, ValueError) as error:
            connection.close()
            raise CutError(f"{url.netloc}: {_why(error)}", sent=True) from error
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
                return self._connect(url)
            if connection.alive():
                return connection
            connection.close()

    def _connect(self, url: SplitResult) -> "_Connection":
        host = url.hostname or ""
        try:
            sock = socket.create_connection((host, url.port or _port(url)), timeout=_CONNECT_TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if url.scheme == "https":
                sock = self._context().wrap_socket(sock, server_hostname=host)
        except OSError as error:
            raise CutError(f"{url.netloc}: {_why(error)}", sent=False) from error
        # The kernel keeps the time: Python's own time-out costs a poll before each send and receive.
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEOUT)
        return _Connection(sock)

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context(cafile=self._ca_bundle or get_cert_path(True))
                self._tls.set_alpn_protocols(["http/1.1"])
            return self._tls

    def _by_proxy(self, url: SplitResult) -> URLLib3Session | None:
        if url.netloc not in self._proxied:
            proxies = get_environ_proxies(f"{url.scheme}://{url.netloc}/")
            wanted = proxies if url.scheme in proxies else None
            with self._lock:
                self._proxied[url.netloc] = wanted and URLLib3Session(
                    verify=self._ca_bundle or True, proxies=wanted, max_pool_connections=64
                )
        return self._proxied[url.netloc]


class _Connection:
    """One kept connection, used by one thread at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self._used = time.monotonic()
        self._keeps = False
        self.reusable = False

    def alive(self) -> bool:
        """False where the other side has closed it: an idle connection has nothing to say."""
        if time.monotonic() - self._used < _FRESH:
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close it."""
        self._sock.close()

    def exchange(self, request: Request, url: SplitResult) -> Response:
        """Send one request and read its answer; raises OSError or ValueError."""
        self.reusable = False
        self._sock.sendall(_head(request, url) + request.body)
        status, headers = self._read_head()
        while status < 200:
            status, headers = self._read_head()
        body = self._read_body(headers)
        self._used = time.monotonic()
        self.reusable = (
            not self._buffer
            and self._keeps
            and headers.get("connection", "").lower() != "close"
            and ("content-length" in headers or "transfer-encoding" in headers)
        )
        return Response(status, headers, body)

    def _read_head(self) -> tuple[int, dict[str, str]]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _CHUNK:
                raise ValueError("the answer's head is too long")
            self._more()
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        self._buffer = self._buffer[end + 4 :]
        if not lines[0].startswith("HTTP/1."):
            raise ValueError("the answer is not HTTP/1.1")
        self._keeps = lines[0].startswith("HTTP/1.1")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return int(lines[0][9:12]), headers

    def _read_body(self, headers: dict[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._read_chunks()
        if "content-length" in headers:
            return self._take(int(headers["content-length"]))
        parts = [self._buffer]
        while part := self._sock.recv(_CHUNK):
            parts.append(part)
        self._buffer = b""
        return b"".join(parts)

    def _read_chunks(self) -> bytes:
        parts = []
        while size := int(self._line().partition(b";")[0], 16):
            parts.append(self._take(size))
            if self._line():
                raise ValueError("the answer's chunks do not fit")
        while self._line():  # trailers
            pass
        return b"".join(parts)

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._more()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _take(self, size: int) -> bytes:
        missing, parts = size - len(self._buffer), [self._buffer]
        while missing > 0:
            part = self._sock.recv(min(missing, 1 << 20))
            if not part:
                raise ConnectionResetError("the connection was closed in the middle of an answer")
            parts.append(part)
            missing -= len(part)
        whole = b"".join(parts)
        self._buffer = whole[size:]
        return whole[:size]

    def _more(self) -> None:
        part = self._sock.recv(_CHUNK)
        if not part:
            raise ConnectionResetError("the connection was closed before an answer")
        self._buffer += part


def _head(request: Request, url: SplitResult) -> bytes:
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = [f"{request.method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    lines.append(f"Content-Length: {len(request.body)}\r\n\r\n")
    return "\r\n".join(lines).encode("latin-1")


def _port(url: SplitResult) -> int:
    return http.client.HTTPS_PORT if url.scheme == "https" else http.client.HTTP_PORT


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def _send_by_botocore(session: URLLib3Session, request: Request) -> Response:
    prepared = AWSPreparedRequest(request.method, request.url, request.headers, request.body, False)
    try:
        answer = session.send(prepared)
        body = answer.content
    except (boto.HTTPClientError, boto.ConnectionError) as error:
        sent = not isinstance(error, boto.EndpointConnectionError | boto.ProxyConnectionError)
        raise CutError(f"{urlsplit(request.url).netloc}: {error}", sent=sent) from error
    return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, body)
