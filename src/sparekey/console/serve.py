"""The console on a socket: its address alone on a line of stdout, then requests until Ctrl-C."""

import contextlib
import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TextIO

import uvicorn
from starlette.types import ASGIApp

from sparekey.app import Connection, UsageRequest
from sparekey.console.browser import open_page, redirect_file
from sparekey.console.connections import connections
from sparekey.console.request_guard import OPEN_PATHS, BrowserSession
from sparekey.console.server import console_app
from sparekey.console.state import ConsoleOptions, ConsoleState
from sparekey.errors import BadInputError

_WAYS, _WANTED = ConsoleOptions(), UsageRequest()


class ListeningConsole(NamedTuple):
    """A console that listens: the address to open once, the server to run on the listener, and its state."""

    address: str
    server: uvicorn.Server
    listener: socket.socket
    state: ConsoleState


def open_console(
    connection: Connection,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    options: ConsoleOptions = _WAYS,
    usage_request: UsageRequest = _WANTED,
) -> ListeningConsole:
    """Listen; raises BadInputError where that cannot be."""
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    names, session = _host_names(host), BrowserSession(port)
    address = f"http://{names[0]}:{port}{OPEN_PATHS}?token={session.token}"
    state = ConsoleState(connection, options, usage_request)
    made = console_app(state, session, [f"{name}:{port}" for name in names])
    return ListeningConsole(address, _server(made), listener, state)


def serve(
    connection: Connection,
    *,
    host: str,
    port: int,
    options: ConsoleOptions,
    usage_request: UsageRequest,
    out: TextIO,
    tell: Callable[[str], None],
    browser: bool,
) -> None:
    """Serve until interrupted; raises BadInputError where it cannot listen."""
    address, server, listener, state = open_console(
        connection, host=host, port=port, options=options, usage_request=usage_request
    )
    if not _is_loopback(host):
        tell(f"warning: {host} is not loopback: anyone who can read the network can read and use these pages")
    out.write(f"{address}\n")
    out.flush()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(listener))
        if browser:
            _open_browser(stack.enter_context(redirect_file(address)), tell)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    if state.is_busy:
        tell("a run is in progress: the current key is finished, no further one is started")
    state.close()


def _open_browser(page: Path, tell: Callable[[str], None]) -> None:
    if not open_page(page):
        tell("no browser could be opened: open the address above in one")


def _host_names(host: str) -> list[str]:
    """The names under which the page answers; the first one stands in the printed address."""
    literal = f"[{host}]" if ":" in host else host
    if _is_loopback(host):
        return [literal, "localhost"]
    return [socket.gethostname(), "localhost"] if host in ("0.0.0.0", "::") else [literal]  # noqa: S104


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    hint = "Name another port, or 0 for any free one."
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # With the protocol named, asyncio turns Nagle's algorithm off: else each answer waits for 40 ms.
        listener = socket.socket(addresses[0][0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise BadInputError(
            f"the console cannot listen on {host}: {error.strerror}", "Check --host."
        ) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(addresses[0][4])
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise BadInputError(f"the console cannot listen on {host}:{port}: {error.strerror}", hint) from error
    return listener


def _server(made: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        made,
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="critical",  # the request line of the first request holds the token
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=connections(),
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
