"""HTTP over real loopback sockets: framing, kept connections, cuts, and the way through a proxy."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sparekey.aws.http_pool import ConnectionLostError, HttpPool, HttpRequest

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Amzn-RequestId: r1\r\n\r\nhi"


@contextmanager
def served(
    *connections: list[bytes], heard: list[bytes] | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """A server that answers each connection's requests with these bytes, then closes it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def serve() -> None:
        for answers in connections:
            accepted, _ = listener.accept()
            accepted.settimeout(5)
            try:
                peer = tls.wrap_socket(accepted, server_side=True) if tls else accepted
            except ssl.SSLError:
                accepted.close()  # the client turned away
                continue
            with peer:
                for answer in answers:
                    request = _read_request(peer)
                    if heard is not None:
                        heard.append(request)
                    peer.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        thread.join(5)
        listener.close()


def _read_request(peer: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request or not request.endswith(b"body"):
        part = peer.recv(4096)
        if not part:
            break
        request += part
    return request


def post(url: str) -> HttpRequest:
    return HttpRequest("POST", url, {"Host": "iam", "X-Test": "1"}, b"body")


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpPool]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = HttpPool()
    yield made
    made.close()


def test_one_connection_carries_many_calls(wire: HttpPool) -> None:
    heard: list[bytes] = []
    with served([PLAIN, PLAIN], heard=heard) as url:
        assert [wire.send(post(url)).body for _ in range(2)] == [b"hi", b"hi"]
        wire.close()
    assert heard[0] == b"POST / HTTP/1.1\r\nHost: iam\r\nX-Test: 1\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (CHUNKED + b"2\r\nhi\r\n4;x=1\r\n you\r\n0\r\nT: 1\r\n\r\n", b"hi you"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN, b"hi"),
    ],
)
def test_every_framing_is_read_whole(wire: HttpPool, answer: bytes, body: bytes) -> None:
    with served([answer, PLAIN]) as url:
        assert wire.send(post(url)).body == body
        assert wire.send(post(url)).body == b"hi"  # over the same connection
        wire.close()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (PLAIN.replace(b"1.1", b"1.0"), b"hi"),
        (PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"hi"),
    ],
)
def test_a_connection_that_the_server_closes_is_not_kept(wire: HttpPool, answer: bytes, body: bytes) -> None:
    with served([answer], [PLAIN]) as url:
        assert wire.send(post(url)).body == body
        assert wire.send(post(url)).body == b"hi"
        wire.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        b"SSH-2.0 what\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nCont",
    ],
)
def test_half_an_answer_is_a_cut_after_sending(wire: HttpPool, answer: bytes) -> None:
    with served([answer]) as url, pytest.raises(ConnectionLostError) as caught:
        wire.send(post(url))
    assert caught.value.sent


def test_nobody_there_is_a_cut_before_sending(wire: HttpPool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionLostError, match="refused") as caught:
        wire.send(post(f"http://127.0.0.1:{port}/"))
    assert not caught.value.sent


def test_a_connection_closed_while_idle_is_not_used_again(wire: HttpPool) -> None:
    with served([PLAIN], [PLAIN]) as url:
        assert wire.send(post(url)).status == 200
        while wire._idle[next(iter(wire._idle))][0].alive():
            threading.Event().wait(0.01)
        assert wire.send(post(url)).status == 200
        wire.close()


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_from_the_environment_is_used(
    wire: HttpPool, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    heard: list[bytes] = []
    with served([PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")], heard=heard) as proxy:
        monkeypatch.setenv(variable, proxy)
        assert wire.send(post("http://iam.example/")).body == b"hi"
    assert heard[0].startswith(b"POST http://iam.example/ HTTP/1.1\r\n")


def test_tls_is_asked_of_a_https_proxy_by_connect(wire: HttpPool, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        heard: list[bytes] = []

        def refuse() -> None:
            peer, _ = listener.accept()
            with peer:
                heard.append(peer.recv(4096))
                peer.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        with pytest.raises(ConnectionLostError, match="proxy"):
            wire.send(post("https://iam.example/"))
        thread.join(5)
    assert heard[0].startswith(b"CONNECT iam.example:443 HTTP/1.")


def test_no_proxy_is_obeyed(wire: HttpPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with served([PLAIN]) as url:
        assert wire.send(post(url)).body == b"hi"
        wire.close()


# --- TLS ---


def tls_context(folder: Path) -> ssl.SSLContext:
    """A server's side, with a certificate that vouches for itself and lies beside as `ca.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "practice")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


def test_one_tls_context_serves_every_connection(
    wire: HttpPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = tls_context(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    trusting = HttpPool()
    big = b"x" * 300_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + big
    with served([PLAIN, answer], [PLAIN], tls=context) as url:
        assert trusting.send(post(url)).body == b"hi"
        assert trusting.send(post(url)).body == big
        first = trusting._routes.context()
        trusting.close()
        assert trusting.send(post(url)).body == b"hi"
        assert trusting._routes.context() is first
        trusting.close()


def test_a_server_that_nobody_vouches_for_is_sent_nothing(wire: HttpPool, tmp_path: Path) -> None:
    heard: list[bytes] = []
    context = tls_context(tmp_path)
    with (
        served([PLAIN], heard=heard, tls=context) as url,
        pytest.raises(ConnectionLostError, match="certificate") as caught,
    ):
        wire.send(post(url))
    assert not caught.value.sent
    assert heard == []


def test_an_answer_with_an_endless_head_is_given_up(wire: HttpPool) -> None:
    with (
        served([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000]) as url,
        pytest.raises(ConnectionLostError, match="too long"),
    ):
        wire.send(post(url))
