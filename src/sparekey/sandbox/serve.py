"""The sandbox over a socket on loopback: in a thread for tests, in the foreground for a person."""

import contextlib
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from sparekey.sandbox.app import PracticeAws
from sparekey.sandbox.clock import SandboxClock
from sparekey.sandbox.errors import SandboxError
from sparekey.sandbox.factory import build_company
from sparekey.sandbox.inprocess import SendToApp
from sparekey.sandbox.protocols import RawRequest, RawResponse
from sparekey.sandbox.scenario import Scenario, demo_company, load_scenario, parse_scenario
from sparekey.sandbox.state import Company, SandboxKey

if TYPE_CHECKING:
    import uvicorn

_HOST = "127.0.0.1"


class Sandbox:
    """A practice AWS.

    `scenario` is one, its TOML text, the path of its file, or None for the demo company. Without a socket it
    answers `handle` and, through `attach`, botocore's clients; as a context manager it serves at `url` too.
    """

    def __init__(
        self,
        scenario: Scenario | str | Path | None = None,
        *,
        clock: SandboxClock | None = None,
        port: int = 0,
    ) -> None:
        self.clock = clock or SandboxClock()
        self.state: Company = build_company(_scenario(scenario), self.clock)
        self.app = PracticeAws(self.state)
        self._port = port
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def restart(
        self, scenario: Scenario | str | Path | None = None, *, clock: SandboxClock | None = None
    ) -> None:
        """Answer for another company from now on, on the same socket."""
        self.clock = clock or SandboxClock()
        self.state = build_company(_scenario(scenario), self.clock)
        self.app.serve_company(self.state)

    @property
    def url(self) -> str:
        """Where it serves; raises SandboxError while it does not."""
        if self._socket is None:
            raise SandboxError(
                "the sandbox serves no socket yet.", "Use it as a context manager, or start() it."
            )
        return f"http://{_HOST}:{self._socket.getsockname()[1]}"

    @property
    def operator(self) -> SandboxKey:
        """The key that is handed out."""
        return self.state.operator

    def env(self, user: str = "", *, account: str = "", key: int = 1) -> dict[str, str]:
        """The environment that points an AWS client at this sandbox, as its operator or as any user."""
        chosen = self.key(user, account=account, number=key) if user else self.operator
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": chosen.id,
            "AWS_SECRET_ACCESS_KEY": chosen.secret,
            # The AWS CLI 2 and other SDKs read the first name, botocore and the AWS CLI 1 only the second.
            "AWS_REGION": self.state.global_region,
            "AWS_DEFAULT_REGION": self.state.global_region,
        }

    def key(self, user: str, *, account: str = "", number: int = 1) -> SandboxKey:
        """A user's key by number, of the operator's account unless said otherwise; raises SandboxError."""
        return self.state.key(account or self.operator.account, user, number)

    def handle(self, request: RawRequest) -> RawResponse:
        """Answer one request without a socket."""
        return self.app.handle(request)

    def attach(self, target: Any) -> None:
        """Answer without a socket one botocore client, or all that a botocore or boto3 session makes next."""
        events = getattr(getattr(target, "meta", target), "events", target)
        events.register("before-send", SendToApp(self.app))

    def export_archive(self, folder: Path, **options: Any) -> list[Path]:
        """Write all events, data events too, as CloudTrail's log files; options as in `Trail.export`."""
        with self.state.lock:
            return self.state.trail.export(folder, **options)

    def advance(self, by: timedelta | float) -> None:
        """Move the sandbox's clock."""
        self.clock.advance(by)

    def listen(self) -> "uvicorn.Server":
        """Open the socket; from here on connections wait for the server."""
        self._server = _server(self.app)  # first: it may be missing, and nothing is open yet
        self._socket = _listen(self._port)
        return self._server

    def start(self) -> Self:
        """Serve from a thread until `stop`."""
        server = self.listen()
        self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [self._socket]}, name="sandbox", daemon=True
        )
        self._thread.start()
        while not server.started and self._thread.is_alive():
            time.sleep(0.005)
        return self

    def run(self, out: TextIO) -> None:
        """Serve in the foreground until interrupted; writes the export lines to `out` first."""
        server = self.listen()
        out.writelines(f"export {name}={value}\n" for name, value in self.env().items())
        out.flush()
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[self._socket] if self._socket else None)

    def stop(self) -> None:
        """Stop serving; the state is kept."""
        if self._server is None or self._thread is None or self._socket is None:
            return
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
        self._server = self._thread = self._socket = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(scenario: Path | None, port: int, out: TextIO) -> None:
    """Serve in the foreground until interrupted; writes the export lines to `out`; raises SandboxError."""
    Sandbox(scenario, port=port).run(out)


def _scenario(source: Scenario | str | Path | None) -> Scenario:
    match source:
        case None:
            return demo_company()
        case Path():
            return load_scenario(source)
        case str():
            return parse_scenario(source)
        case _:
            return source


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise SandboxError(
            f"the sandbox cannot listen on port {port}: {error}.", "Name another port, or 0 for any free one."
        ) from error
    listener.listen(512)
    return listener


def _server(app: PracticeAws) -> "uvicorn.Server":
    import uvicorn  # noqa: PLC0415  # only who serves needs it

    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)
