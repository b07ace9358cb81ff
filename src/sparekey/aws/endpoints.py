"""A connected socket to an endpoint: directly, or through the proxy that the environment names.

A socket's time-out here covers each whole call on it: a TLS record that arrives byte by byte does not renew it.
"""

import base64
import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

_CONNECT_SECONDS = 10.0  # for one address, and for one TLS handshake
_TOTAL_SECONDS = 30.0  # for all addresses of a host
_HEAD = 1 << 13  # bytes: the longest answer of a proxy to CONNECT
_CHUNK = 1 << 16


class ByteStream(Protocol):
    """What an exchange needs of a socket."""

    def recv(self, size: int, /) -> bytes:
        """At most `size` bytes; none once the other side has ended. Raises OSError."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send all of it; raises OSError."""
        ...

    def settimeout(self, seconds: float, /) -> None:
        """Seconds that a call may take."""
        ...

    def close(self) -> None:
        """Close it."""
        ...

    def fileno(self) -> int:
        """The file descriptor, for a poll."""
        ...


class Route(msgspec.Struct, frozen=True):
    """How an endpoint is reached; `prefix` is put before the path where a proxy is asked for the whole URL."""

    proxy: SplitResult | None = None
    prefix: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The header that a proxy of plain requests asks for."""
        return _authorization(self.proxy) if self.proxy and self.prefix else {}


DIRECT = Route()


class RouteTable:
    """Opens sockets; thread-safe. The TLS context is loaded once, the proxy is looked up once for a host."""

    def __init__(self, ca_bundle: str | None = None) -> None:
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._ca_bundle = ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE")  # as botocore does
        self._routes: dict[tuple[str, str], Route] = {}

    def route(self, url: SplitResult) -> Route:
        """How this endpoint is reached; raises ValueError for a proxy of a kind that is not known."""
        key = (url.scheme, url.netloc)
        if key not in self._routes:
            proxies = get_environ_proxies(f"{url.scheme}://{url.netloc}/")
            self._routes[key] = _proxy_route(url, proxies[url.scheme]) if url.scheme in proxies else DIRECT
        return self._routes[key]

    def open(self, url: SplitResult, seconds: float) -> ByteStream:
        """A connected socket, through the proxy and with TLS where they are wanted; raises OSError, ValueError."""
        route, host = self.route(url), url.hostname or ""
        first = route.proxy or url
        what = "the proxy cannot be reached: " if route.proxy else ""
        with _without_password(what):
            sock = _connect(first.hostname or "", first.port or port_of(first.scheme))
        try:
            stream = self._with_tls(sock, first, url, route, host)
        except BaseException:
            sock.close()
            raise
        stream.settimeout(seconds)
        return stream

    def context(self) -> ssl.SSLContext:
        """The TLS context of every connection."""
        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context(cafile=self._ca_bundle or get_cert_path(True))
                self._tls.set_alpn_protocols(["http/1.1"])
            return self._tls

    def _with_tls(
        self, sock: socket.socket, first: SplitResult, url: SplitResult, route: Route, host: str
    ) -> ByteStream:
        stream: socket.socket = sock
        if first.scheme == "https":
            with _without_password("the proxy cannot be reached: " if route.proxy else ""):
                stream = self._wrap(sock, first.hostname or "")
        if not route.proxy or route.prefix:
            return stream
        _open_tunnel(stream, route.proxy, url)
        if isinstance(stream, ssl.SSLSocket):
            return _TlsInTls(stream, self.context(), host)
        return self._wrap(stream, host)

    def _wrap(self, sock: socket.socket, host: str) -> ssl.SSLSocket:
        # An end without TLS's own goodbye is an error: an attacker on the line could shorten an answer.
        return self.context().wrap_socket(sock, server_hostname=host, suppress_ragged_eofs=False)


def port_of(scheme: str) -> int:
    """The port where a URL names none."""
    return http.client.HTTPS_PORT if scheme == "https" else http.client.HTTP_PORT


def _proxy_route(url: SplitResult, named: str) -> Route:
    proxy = urlsplit(named if "://" in named else f"http://{named.removeprefix('//')}")
    if proxy.scheme not in ("http", "https") or not proxy.hostname:
        raise ValueError(f"the proxy that the environment names for {url.scheme} is no http(s) URL")
    return Route(proxy, f"http://{url.netloc}" if url.scheme == "http" else "")


def _authorization(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


@contextlib.contextmanager
def _without_password(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(f"{what}{reason(error)}") from error


def reason(error: Exception) -> str:
    """The system's own words for a failure of a socket."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def _connect(host: str, port: int) -> socket.socket:
    """Try each address of the host in turn; raises OSError."""
    end, failed = time.monotonic() + _TOTAL_SECONDS, OSError("no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        left = end - time.monotonic()
        if left <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(min(_CONNECT_SECONDS, left))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(_CONNECT_SECONDS)  # of what precedes the first request
        except OSError as error:
            sock.close()
            failed = error
        else:
            return sock
    raise failed


def _open_tunnel(stream: ByteStream, proxy: SplitResult, url: SplitResult) -> None:
    """CONNECT (RFC 9110, 9.3.6); raises OSError where the proxy refuses or does not answer in time."""
    host = f"{url.hostname}" if ":" not in (url.hostname or "") else f"[{url.hostname}]"
    target = f"{host}:{url.port or port_of(url.scheme)}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    lines += [f"{name}: {value}" for name, value in _authorization(proxy).items()]
    stream.sendall("\r\n".join([*lines, "\r\n"]).encode("latin-1"))
    end, head = time.monotonic() + _CONNECT_SECONDS, bytearray()
    while not head.endswith(b"\r\n\r\n"):
        # A byte at a time: what follows the head belongs to TLS.
        part = stream.recv(1)
        if not part or len(head) > _HEAD or time.monotonic() > end:
            raise OSError("the proxy gave no whole answer to CONNECT")
        head += part
    status = head.split(b"\r\n", 1)[0].split(b" ")[1:2]
    if not head.startswith(b"HTTP/1.") or not status or not status[0].startswith(b"2"):
        code = status[0].decode("ascii", "replace")[:3] if status else "no status"
        raise OSError(f"the proxy refuses a tunnel to {target} (HTTP {code})")


class _TlsInTls:
    """TLS to the endpoint inside TLS to a proxy: ssl wraps no socket that is wrapped already."""

    def __init__(self, outer: ssl.SSLSocket, context: ssl.SSLContext, host: str) -> None:
        self._outer = outer
        self._seconds = _CONNECT_SECONDS
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._close_outer = time.monotonic() + self._seconds
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
        self._flush()

    def recv(self, size: int, /) -> bytes:
        """As a socket does."""
        self._close_outer = time.monotonic() + self._seconds
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    def sendall(self, data: bytes, /) -> None:
        """As a socket does; a memory BIO takes everything at once."""
        self._tls.write(data)
        self._flush()

    def settimeout(self, seconds: float, /) -> None:
        """As a socket does."""
        self._seconds = seconds
        self._outer.settimeout(seconds)

    def close(self) -> None:
        """As a socket does."""
        self._outer.close()

    def fileno(self) -> int:
        """As a socket does."""
        return self._outer.fileno()

    def pending(self) -> int:
        """Bytes that are decrypted, or wait in the outer layer."""
        return self._tls.pending() + self._incoming.pending + self._outer.pending()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._outer.sendall(data)

    def _fill(self) -> None:
        left = self._close_outer - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._outer.settimeout(left)
        if data := self._outer.recv(_CHUNK):
            self._incoming.write(data)
        else:
            raise ConnectionResetError("the connection was closed in the middle of an answer")
