"""An endpoint that means harm, or fails oddly: each answer ends in time, in bounded memory, with one sentence."""

import gzip
import http.client
import io
import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aws.test_http_pool import PLAIN, post, tls_context
from sparekey.aws.client import AwsClient, Principal
from sparekey.aws.errors import AwsError, MalformedResponseError, UnreachableError
from sparekey.aws.http_pool import ConnectionLostError, HttpPool, HttpRequest, HttpResponse, _Connection
from support.clocks import VirtualClock
from support.scripted_aws import START, session

LARGEST = 200_000
HEAD = b"HTTP/1.1 200 OK\r\n"
MIB = b"x" * (1 << 20)


@contextmanager
def hostile(
    first: bytes, again: bytes = b"", pause: float = 0.0, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """A server that sends `first`, then `again` for ever; it ends when its client has gone."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)

    def answer(accepted: socket.socket) -> None:
        with suppress(OSError), tls.wrap_socket(accepted, server_side=True) if tls else accepted as peer:
            peer.settimeout(5)
            peer.recv(65536)
            peer.sendall(first)
            while again and not over.wait(pause):
                peer.sendall(again)

    def serve() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                answer(listener.accept()[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        over.set()
        thread.join(5)
        listener.close()


ENDLESS = {
    "a byte now and then": (HEAD + b"Content-Length: 100000\r\n\r\n", b"x", 0.01, "no whole answer within"),
    "a byte of a head now and then": (HEAD, b"x", 0.01, "no whole answer within"),
    "a byte of a chunk line now and then": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;",
        b"x",
        0.01,
        "no whole",
    ),
    "silence": (b"", b"", 0.0, "before the end"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.0, "interim answers without an end"),
    "103 Early Hints now and then": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.01, "interim"),
    "headers": (HEAD, b"X: y\r\n" * 1000, 0.0, "head is too long"),
    "a length of 1 TiB": (
        HEAD + b"Content-Length: 1099511627776\r\n\r\n",
        MIB,
        0.0,
        "larger than 200,000 bytes",
    ),
    "a length of many digits": (
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        MIB,
        0.0,
        "length that is none",
    ),
    "chunks": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        b"100\r\n" + b"x" * 256 + b"\r\n",
        0.0,
        "larger than",
    ),
    "small chunks": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n" * 1000,
        0.0,
        "larger than|no whole",
    ),
    "a chunk of 1 TiB": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n10000000000\r\n",
        MIB,
        0.0,
        "larger than",
    ),
    "a chunk line": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", MIB, 0.0, "too long"),
    "trailers": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
        b"X: y\r\n" * 1000,
        0.0,
        "trailers are too long",
    ),
    "a body without a length": (HEAD + b"\r\n", MIB, 0.0, "larger than"),
}


@pytest.mark.parametrize("form", ENDLESS)
def test_an_answer_without_an_end_is_given_up(form: str) -> None:
    first, again, pause, received = ENDLESS[form]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with hostile(first, again, pause) as url, pytest.raises(ConnectionLostError, match=received) as caught:
        HttpPool(seconds=0.3, largest=LARGEST).send(post(url))
    assert caught.value.sent
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_a_slow_tls_record_does_not_renew_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = tls_context(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with (
        hostile(HEAD + b"Content-Length: 100000\r\n\r\n", b"x", 0.01, context) as url,
        pytest.raises(ConnectionLostError, match=r"no whole answer within 0\.3 seconds"),
    ):
        HttpPool(seconds=0.3).send(post(url))


WRONG = {
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "a length and chunks": HEAD
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "an encoding that is not known": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a length below zero": HEAD + b"Content-Length: -5\r\n\r\nhi",
    "a length with a sign": HEAD + b"Content-Length: +2\r\n\r\nhi",
    "a chunk below zero": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-2\r\nhi\r\n0\r\n\r\n",
    "a chunk that is no number": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n",
    "a chunk that is too short": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhi\r\n0\r\n\r\n",
    "a chunked answer that is cut": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    "a header without a colon": HEAD + b"X\r\nContent-Length: 2\r\n\r\nhi",
    "a header that goes on": HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nhi",
    "a bare line feed": HEAD + b"X: a\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "another version": b"HTTP/2 200\r\n\r\n",
    "a status that is none": b"HTTP/1.1 -20 OK\r\n\r\n",
    "a compressed body": HEAD
    + b"Content-Encoding: gzip\r\nContent-Length: 300\r\n\r\n"
    + gzip.compress(b"x" * 10**8)[:300],
}


@pytest.mark.parametrize("form", WRONG)
def test_framing_that_is_not_plain_is_refused(form: str) -> None:
    with hostile(WRONG[form]) as url, pytest.raises(ConnectionLostError):
        HttpPool(seconds=0.3, largest=LARGEST).send(post(url))


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_is_not_waited_for(status: int) -> None:
    with hostile(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status) as url:
        wire = HttpPool(seconds=5)
        assert wire.send(post(url)) == HttpResponse(status, {"content-length": "5"}, b"")
        wire.close()


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\rb", "caf\xe9"])
def test_a_request_of_which_a_header_would_become_two_is_not_sent(value: str) -> None:
    with hostile(PLAIN) as url, pytest.raises(ConnectionLostError, match="header of the request") as caught:
        HttpPool().send(HttpRequest("POST", url, {"Host": "iam", "X-Amz-Security-Token": value}, b"body"))
    assert not caught.value.sent
    assert value not in str(caught.value)


def test_bytes_that_come_late_are_not_the_next_answer() -> None:
    """A connection with something unread on it is not used again, however short it was idle."""
    wire = HttpPool(seconds=5)
    with hostile(PLAIN, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 0.2) as url:
        assert wire.send(post(url)).body == b"hi"
        connection = next(iter(wire._idle.values()))[0]
        while connection.alive():
            threading.Event().wait(0.01)
        assert wire.send(post(url)).body == b"hi"
    wire.close()


# --- what a caller sees ---


def sentence(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> AwsError:
    """How a call ends that is answered so."""
    wire = HttpPool(seconds=0.3, largest=LARGEST)
    with hostile(answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        made = session(max_attempts=1)
        client = AwsClient(made, "us-east-1", VirtualClock(START), send=wire.send)
        made_principal = Principal("", made.get_credentials())
        with pytest.raises(AwsError) as caught:
            client.call(made_principal, "sts", "GetCallerIdentity")["Account"]
        wire.close()
    return caught.value


def test_a_redirect_is_told_and_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    error = sentence(
        monkeypatch, b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    )
    assert error.message == "sts:GetCallerIdentity is redirected (HTTP 302), which AWS does not do"
    assert "AWS_ENDPOINT_URL" in error.hint


def test_an_answer_that_is_too_large_names_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    error = sentence(monkeypatch, HEAD + b"Content-Length: 1099511627776\r\n\r\n")
    assert isinstance(error, UnreachableError)
    assert error.message.startswith("no answer to sts:GetCallerIdentity: 127.0.0.1:")
    assert error.message.endswith("the answer is larger than 200,000 bytes")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"x"',
        b"<a>" * 40_000,
        b"\xff\xfe",
        b"<GetCallerIdentityResponse/>",
        b"<html>sign in</html>",
    ],
)
def test_a_body_that_is_not_an_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    error = sentence(monkeypatch, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert isinstance(error, MalformedResponseError)
    assert "sts:GetCallerIdentity" in error.message


# --- against http.client ---


class _Read(io.BytesIO):
    """A socket for http.client, of bytes that are there."""

    def makefile(self, _mode: str) -> io.BytesIO:
        return self


def by_http_client(answer: bytes) -> tuple[int, bytes] | None:
    """The status and body as http.client reads them; None for an error."""
    try:
        response = http.client.HTTPResponse(_Read(answer), method="POST")  # type: ignore[arg-type]
        response.begin()
        return response.status, response.read()
    except (http.client.HTTPException, ValueError, OSError):
        return None


NUMBERS = st.one_of(
    st.integers(0, 12).map(str),
    st.sampled_from(["-1", "+2", "1_0", " 3", "0x2", "2;x=1", "a", "", "99999999999999"]),
)
HEADERS = st.one_of(
    st.builds("Content-Length: {}".format, NUMBERS),
    st.sampled_from(
        [
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Connection: close",
            "Content-Encoding: gzip",
        ]
    ),
    st.builds("X{}: {}".format, st.sampled_from(["", "-A", " "]), st.text("ab: \t\n\r\0\xe9", max_size=4)),
)
STATUS = st.builds(
    "{} {}{}".format,
    st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.9", "http/1.1", ""]),
    st.sampled_from(["200", "200", "403", "503", "204", "304", "100", "600", "20", "abc"]),
    st.sampled_from(["", " OK", " \xe9"]),
)
CHUNKS = st.lists(st.builds("{}\r\n{}\r\n".format, NUMBERS, st.text("ab", max_size=6)), max_size=3).map(
    "".join
)
BODIES = st.one_of(
    st.text("ab\r\n", max_size=12),
    st.builds(
        "{}0\r\n{}".format, CHUNKS, st.sampled_from(["\r\n", "T: 1\r\n\r\n", "", "\r\nHTTP/1.1 200 OK\r\n"])
    ),
    st.lists(st.text("ab", min_size=1, max_size=9), max_size=3).map(
        lambda parts: "".join(f"{len(part):x}\r\n{part}\r\n" for part in parts) + "0\r\n\r\n"
    ),
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Answers of which most are nearly right."""
    lines = [draw(STATUS), *draw(st.lists(HEADERS, max_size=3))]
    text = "\r\n".join(lines) + "\r\n\r\n" + draw(BODIES)
    raw = text.encode("latin-1")
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 4)) == 0 else raw


def exchanged(
    answer: bytes, *, closed: bool, seconds: float = 0.02
) -> tuple[HttpResponse | None, bool, bool]:
    """What is read of this answer; whether the connection is kept, and whether the next answer is its own."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        if closed:
            theirs.shutdown(socket.SHUT_WR)
        ours.settimeout(seconds)
        connection = _Connection(ours, seconds, LARGEST)
        try:
            response = connection.exchange(b"request")
        except (OSError, ValueError):
            return None, False, True
        if closed or not (connection.reusable and connection.alive()):
            return response, False, True
        theirs.sendall(HEAD + b"Content-Length: 6\r\n\r\nmarker")
        return response, True, connection.exchange(b"request").body == b"marker"


@settings(max_examples=200)
@given(answers())
def test_any_answer_is_read_as_http_client_reads_it_or_refused(answer: bytes) -> None:
    response, _, _ = exchanged(answer, closed=True)
    if response is not None:
        assert (response.status, response.body) == by_http_client(answer)


@settings(max_examples=60)
@given(answers())
def test_no_answer_leaves_something_for_the_next_one(answer: bytes) -> None:
    _, _, right = exchanged(answer, closed=False)
    assert right


@given(
    st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    st.binary(max_size=300),
    st.booleans(),
)
@settings(max_examples=50)
def test_every_well_formed_answer_is_read_and_its_connection_kept(
    status: int, body: bytes, chunked: bool
) -> None:
    if chunked:
        parts = [body[at : at + 100] for at in range(0, len(body), 100)]
        framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        answer = b"HTTP/1.1 %d \r\nTransfer-Encoding: Chunked\r\n\r\n%s" % (status, framed)
    else:
        answer = b"HTTP/1.1 %d Any\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
    response, kept, right = exchanged(answer, closed=False, seconds=20.0)
    assert response is not None
    assert (response.status, response.body) == (status, body) == by_http_client(answer)
    assert kept
    assert right
