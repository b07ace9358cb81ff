"""A console on a practice AWS, and a real browser to work in it."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from sparekey.app import AccountChoice, Connection
from sparekey.app.connection import OWN_ACCOUNT
from sparekey.aws.gateway import AwsGateway
from sparekey.aws.http_pool import HttpPool
from sparekey.console.serve import open_console
from sparekey.console.state import ConsoleState
from sparekey.sandbox import Sandbox
from sparekey.settings import load_policy
from support.clocks import HurriedClock

CHROMIUM = "/usr/bin/chromium"
# One that starts nothing on its own and asks nobody outside.
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A name that somebody else owns and that leads here: what DNS rebinding does.
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
)
POLICY = """\
[[exempt]]
user = "partner-sftp"
owner = "integrations@practice.example"
reason = "the partner swaps its key by post"
expires = 2099-01-31

[[exempt]]
user = "billing-*"
owner = "finance@practice.example"
reason = "until the migration in spring"
expires = 2020-04-30

[[rotators]]
user = "vault-*"
tool = "Vault"
"""


expect.set_options(timeout=20_000)


@dataclass
class Console:
    """A console that serves from a thread; `address` opens it once."""

    address: str
    state: ConsoleState
    sandbox: Sandbox
    server: uvicorn.Server

    @property
    def origin(self) -> str:
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"


@contextmanager
def console_on(
    sandbox: Sandbox, home: Path, policy: str = POLICY, where: AccountChoice = OWN_ACCOUNT
) -> Iterator[Console]:
    """Serve a console that works on a sandbox."""
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "sparekey.toml").write_text(policy)
    (home / "sparekey.toml").chmod(0o600)
    with pytest.MonkeyPatch.context() as patch, sandbox:
        for name in [name for name in os.environ if name.startswith(("AWS_", "SPAREKEY_"))]:
            patch.delenv(name)
        for name, value in {**sandbox.env(), "SPAREKEY_HOME": str(home)}.items():
            patch.setenv(name, value)
        wire = HttpPool()  # closed below, which a process that ends need not do
        here = Connection(AwsGateway.connect(send=wire.send), load_policy(None), HurriedClock(), where)
        address, server, listener, state = open_console(here)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield Console(address, state, sandbox, server)
        finally:
            server.should_exit = True
            thread.join(15)
            state.close()
            listener.close()
            wire.close()
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not shutil.which(CHROMIUM):
        pytest.fail("the console's tests need Debian's chromium: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with console_on(Sandbox(), tmp_path_factory.mktemp("console") / "home") as made:
        yield made


@pytest.fixture(scope="module")
def context(browser: Browser, console: Console) -> Iterator[BrowserContext]:
    """A browser that was let in, and the accounts are read."""
    made = let_in(browser, console)
    yield made
    made.close()


def let_in(browser: Browser, console: Console, **options: bool) -> BrowserContext:
    """A browser context that opened the printed address."""
    made = browser.new_context(viewport={"width": 1280, "height": 800}, **options)  # type: ignore[arg-type]  # java_script_enabled alone
    made.set_default_timeout(15_000)
    page = made.new_page()
    page.goto(console.address)
    page.get_by_role("heading", name="Accounts", exact=True).wait_for()
    page.close()
    return made


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    made = context.new_page()
    yield made
    made.close()
