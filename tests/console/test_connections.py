"""Connections that ask for nothing are closed in time, and never keep the console's owner out."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext

from console.conftest import Console, console_on, let_in
from console.test_attacks import ask, cookie_of, our_own
from sparekey.console import connections
from sparekey.console.connections import ConsoleProtocol, UnauthenticatedConnections
from sparekey.sandbox import Sandbox


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console with a deadline of a second, in place of ten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEADER_DEADLINE", 1.0)
        with console_on(Sandbox(), tmp_path_factory.mktemp("connections") / "home") as made:
            yield made


@pytest.fixture(scope="module")
def context(browser: Browser, console: Console) -> Iterator[BrowserContext]:
    made = let_in(browser, console)
    yield made
    made.close()


def connect(console: Console) -> socket.socket:
    parts = urlsplit(console.origin)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)


def closed(connection: socket.socket) -> bool:
    """Whether the console closes a connection, waiting for it."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def test_idle_connections_keep_nobody_out(console: Console, context: BrowserContext) -> None:
    idle = [connect(console) for _ in range(300)]
    try:
        assert ask(console, "/runs", headers=our_own(console, context)).status == 200
        undo = ask(console, "/runs/r-unknown/undo", method="POST", headers=our_own(console, context))
        assert undo.status == 400
        assert "No run match" in undo.text
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
    ],
    ids=["nothing", "half-the-headers", "half-a-form-that-is-refused"],
)
def test_a_request_that_does_not_become_whole_is_closed(console: Console, sent: bytes) -> None:
    with connect(console) as connection:
        connection.sendall(sent)
        assert closed(connection)


def test_dripping_bytes_do_not_hold_a_connection(console: Console) -> None:
    with connect(console) as connection:
        assert drip(connection), "it was held for ten times its deadline"


def drip(connection: socket.socket) -> bool:
    """Send a header's line now and then; whether the console ends it."""
    try:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(200):
            connection.sendall(b"a: b\r\n")
            time.sleep(0.05)
    except OSError:
        return True
    return False


def test_an_answer_that_goes_on_is_not_cut_off(console: Console, context: BrowserContext) -> None:
    """The deadline is for a request's headers: a page that is followed live outlasts it."""
    headers = f"Host: {urlsplit(console.origin).netloc}\r\nCookie: {cookie_of(context)}\r\n"
    with connect(console) as connection:
        connection.sendall(f"GET /reading/events HTTP/1.1\r\n{headers}\r\n".encode())
        seen = b""
        while b"event: end" not in seen and (part := connection.recv(65536)):
            seen += part
    assert b"200 OK" in seen
    assert b"event: end" in seen


def test_the_oldest_stranger_goes_first() -> None:
    aborted: list[str] = []

    class Transport:
        def __init__(self, name: str) -> None:
            self._name = name

        def abort(self) -> None:
            aborted.append(self._name)

    class Stub:
        def __init__(self, name: str) -> None:
            self.transport = Transport(name)

    strangers = UnauthenticatedConnections(most=2)
    first, second, third, fourth = made = [Stub(name) for name in ("first", "second", "third", "fourth")]
    strangers.add(first)  # type: ignore[arg-type]
    strangers.add(second)  # type: ignore[arg-type]
    strangers.remove(first)  # type: ignore[arg-type]  # it has shown the cookie
    strangers.add(third)  # type: ignore[arg-type]
    strangers.add(fourth)  # type: ignore[arg-type]
    assert aborted == ["second"]
    assert len(made) == 4
    assert issubclass(connections.connections(2), ConsoleProtocol)


def test_a_form_that_is_cut_off_is_no_failure_of_ours(
    console: Console, context: BrowserContext, capfd: pytest.CaptureFixture[str]
) -> None:
    headers = "".join(f"{name}: {value}\r\n" for name, value in our_own(console, context).items())
    host = urlsplit(console.origin).netloc
    with connect(console) as connection:
        head = f"POST /chosen HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: 100\r\n\r\nuser="
        connection.sendall(head.encode())
        time.sleep(0.2)
    assert ask(console, "/runs", headers=our_own(console, context)).status == 200
    assert capfd.readouterr().err == ""


def test_a_request_with_two_lengths_is_refused_and_its_connection_closed(
    console: Console, context: BrowserContext
) -> None:
    headers = "".join(f"{name}: {value}\r\n" for name, value in our_own(console, context).items())
    host = f"Host: {urlsplit(console.origin).netloc}\r\n"
    both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"
    with connect(console) as connection:
        whole = f"POST /read HTTP/1.1\r\n{host}{headers}{both}\r\n0\r\n\r\nGET /runs HTTP/1.1\r\n{host}{headers}\r\n"
        connection.sendall(whole.encode())
        seen = b""
        while part := connection.recv(65536):
            seen += part
    assert seen.startswith(b"HTTP/1.1 400")
    assert seen.count(b"HTTP/1.1 ") == 1


def test_the_file_that_opens_the_browser_lets_it_in(browser: Browser, tmp_path: Path) -> None:
    from sparekey.console.browser import redirect_file

    with console_on(Sandbox(), tmp_path / "home") as made, redirect_file(made.address) as path:
        assert path.stat().st_mode & 0o777 == 0o600
        context = browser.new_context()
        page = context.new_page()
        page.goto(path.as_uri())
        page.wait_for_url(f"{made.origin}/")
        page.get_by_role("heading", name="Accounts", exact=True).wait_for()
        context.close()
    assert not path.exists()
