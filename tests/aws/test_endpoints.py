"""The way to an endpoint through proxies: plain, with TLS, and TLS inside TLS; real sockets on loopback."""

import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from aws.test_http_pool import PLAIN, post, served, tls_context, wire
from sparekey.aws.endpoints import RouteTable
from sparekey.aws.http_pool import ConnectionLostError, HttpPool

__all__ = ["wire"]  # a fixture


@contextmanager
def proxy(
    reply: bytes = b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n",
    *,
    tls: ssl.SSLContext | None = None,
    heard: list[bytes] | None = None,
) -> Iterator[str]:
    """A proxy that answers CONNECT so, and passes bytes on; one connection at a time."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        accepted, _ = listener.accept()
        accepted.settimeout(5)
        with suppress(OSError), tls.wrap_socket(accepted, server_side=True) if tls else accepted as client:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += client.recv(4096)
            if heard is not None:
                heard.append(asked)
            client.sendall(reply)
            if not reply.startswith(b"HTTP/1.1 200"):
                return
            host, port = asked.split()[1].decode().split(":")
            with socket.create_connection((host, int(port)), timeout=5) as target:
                back = threading.Thread(target=pump, args=(target, client), daemon=True)
                back.start()
                pump(client, target)
                back.join(5)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join(5)
        listener.close()


@pytest.mark.parametrize("secure", [False, True])
def test_a_call_goes_through_a_proxys_tunnel(
    wire: HttpPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    """Also where the proxy itself is spoken to by TLS: then there is TLS inside TLS."""
    context, heard, inside = tls_context(tmp_path), list[bytes](), list[bytes]()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
    with (
        served([PLAIN, big], heard=inside, tls=context) as url,
        proxy(tls=context if secure else None, heard=heard) as place,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http{'s' if secure else ''}://me:p%40ss@{place}")
        trusting = HttpPool(seconds=5)
        assert trusting.send(post(url)).body == b"hi"
        assert trusting.send(post(url)).body == b"x" * 300_000  # the same connection
        trusting.close()
    (asked,) = heard
    target = url.removeprefix("https://").rstrip("/")
    assert asked.startswith(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode())
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:p@ss") in asked
    assert not any(b"Proxy-Authorization" in request for request in inside)


def test_a_plain_request_tells_its_proxy_the_whole_address(
    wire: HttpPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []
    with served([PLAIN], heard=heard) as place:
        monkeypatch.setenv("http_proxy", place.replace("http://", "http://me:word@").rstrip("/"))
        assert wire.send(post("http://iam.example:81/path?x=1")).body == b"hi"
        wire.close()
    assert heard[0].startswith(b"POST http://iam.example:81/path?x=1 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:word") in heard[0]


@pytest.mark.parametrize(
    ("reply", "received"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            r"refuses a tunnel to iam\.example:443 \(HTTP 407\)",
        ),
        (b"HTTP/1.1 403", "no whole answer to CONNECT"),
        (b"SSH-2.0\r\n\r\n", "refuses a tunnel"),
        (b"HTTP/1.1 403 " + b"x" * 70_000, "no whole answer to CONNECT"),
    ],
)
def test_a_proxy_that_does_not_tunnel_is_told_without_its_password(
    wire: HttpPool, monkeypatch: pytest.MonkeyPatch, reply: bytes, received: str
) -> None:
    with proxy(reply) as place:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter2@{place}")
        with pytest.raises(ConnectionLostError, match=received) as caught:
            wire.send(post("https://iam.example/"))
    assert not caught.value.sent
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("named", ["socks5://127.0.0.1:1", "https://"])
def test_a_proxy_of_another_kind_is_told(wire: HttpPool, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", named)
    with pytest.raises(ConnectionLostError, match=r"is no http\(s\) URL") as caught:
        wire.send(post("https://iam.example/"))
    assert not caught.value.sent


def test_a_proxy_that_is_not_there_is_told_as_such(wire: HttpPool, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{port}")
    with pytest.raises(ConnectionLostError, match="the proxy cannot be reached: Connection refused"):
        wire.send(post("https://iam.example/"))


def test_every_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        gone, here = other.getsockname(), listener.getsockname()
        other.close()
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (gone, here)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        stream = RouteTable().open(urlsplit(f"http://somewhere:{here[1]}/"), 5)
        assert stream.fileno() > 0
        stream.close()


def test_no_address_is_no_endless_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparekey.aws.endpoints._TOTAL_SECONDS", -1.0)
    with pytest.raises(OSError, match="no address"):
        RouteTable().open(urlsplit("http://127.0.0.1:9/"), 5)
