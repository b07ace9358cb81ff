"""What must not work: other sites, names and browsers, hostile texts; and what must never be shown."""

import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from console.conftest import Console, console_on, let_in
from sparekey.model import Consumer, ServiceUse, Usage
from sparekey.sandbox import Sandbox
from support.console_walk import MAIN
from support.recorded_runs import recorded_runs

pytestmark = pytest.mark.slow

SCRIPT = "<script>window.broken=1</script>"
IMAGE = "'\\\"><img src=x onerror=window.broken=1>"
RIGHT_TO_LEFT = "admin\u202egnirts"
POLICY = f"""\
[[exempt]]
user = "hebrew-*"
owner = "{SCRIPT}"
reason = "{IMAGE} {RIGHT_TO_LEFT}"
expires = 2099-01-31
"""
HOSTILE = f"""\
seed = "hostile"
[caller]
account = "111122223333"
user = "ops"
[[account]]
id = "111122223333"
name = "Hostile"
alias = "hostile"
[[account.user]]
name = "ops"
key = [{{ age = "20d", used = {{ ago = "1h", service = "iam" }} }}]
[[account.user]]
name = "{SCRIPT.replace("/", "")}"
key = [{{ age = "300d" }}, {{ age = "60d", used = {{ ago = "1h", service = "s3" }} }}]
[[account.user]]
name = ".."
key = [{{ age = "300d" }}, {{ age = "60d", used = {{ ago = "1h", service = "s3" }} }}]
[[account.user]]
name = "{RIGHT_TO_LEFT}"
key = [{{ age = "300d" }}, {{ age = "60d", used = {{ ago = "1h", service = "s3" }} }}]
[[account.user]]
name = "hebrew-\u05d0\u05d1\u05d2"
key = [{{ age = "300d" }}, {{ age = "60d", used = {{ ago = "1h", service = "s3" }} }}]
[[account.user]]
name = "a{IMAGE.replace("/", "")}"
key = [{{ age = "300d" }}, {{ age = "60d", used = {{ ago = "1h", service = "s3" }} }}]
"""


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str


def ask(
    console: Console,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: str = "",
) -> Answer:
    """One request, with exactly the headers given."""
    with closing(http.client.HTTPConnection(urlsplit(console.origin).netloc, timeout=10)) as connection:
        connection.request(method, path, body, dict(headers or {}))
        with connection.getresponse() as answer:
            return Answer(answer.status, dict(answer.headers), answer.read().decode())


def cookie_of(context: BrowserContext) -> str:
    return "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in context.cookies())


def our_own(console: Console, context: BrowserContext, **change: str) -> dict[str, str]:
    """The headers that a browser sends with a form of our own page, but for those changed or emptied."""
    headers = {
        "Cookie": cookie_of(context),
        "Origin": console.origin,
        "Sec-Fetch-Site": "same-origin",
        "Content-Type": "application/x-www-form-urlencoded",
        **{name.replace("_", "-"): value for name, value in change.items()},
    }
    return {name: value for name, value in headers.items() if value}


FORM = urlencode({"account": MAIN, "name": "web-frontend"})


@pytest.mark.parametrize(
    "change",
    [
        {"Origin": ""},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Cookie": ""},
        {"Cookie": "sparekey-1=guess"},
        {"Host": "evil.example"},
    ],
    ids=lambda change: "-".join(f"{name}={value}" for name, value in change.items()),
)
def test_a_write_is_refused_where_one_thing_is_not_ours(
    console: Console, context: BrowserContext, change: dict[str, str]
) -> None:
    headers = our_own(console, context, **change)
    answer = ask(console, "/plans", method="POST", headers=headers, body=FORM)
    assert answer.status in (403, 421)
    assert "AKIA" not in answer.text


def test_the_same_write_is_taken_where_everything_is_ours(console: Console, context: BrowserContext) -> None:
    answer = ask(console, "/plans", method="POST", headers=our_own(console, context), body=FORM)
    assert answer.status == 303
    assert answer.headers["location"].startswith("/plans/")


@pytest.mark.parametrize(
    "path", ["/", "/users", "/held", "/runs", "/exemptions", "/reading/events", "/nothing"]
)
def test_nothing_is_shown_to_a_browser_that_was_not_let_in(console: Console, path: str) -> None:
    answer = ask(console, path)
    assert answer.status == 403
    received = answer.text
    assert "Not signed in" in received
    assert MAIN not in received


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_do_nothing(console: Console, context: BrowserContext, method: str) -> None:
    assert ask(console, "/", method=method, headers=our_own(console, context)).status == 405


def test_the_address_opens_once(console: Console, context: BrowserContext, browser: Browser) -> None:
    other = browser.new_context()
    page = other.new_page()
    answer = page.goto(console.address)
    assert answer
    assert answer.status == 403
    expect(page.get_by_role("heading", name="This address was used before")).to_be_visible()
    page.goto(f"{console.origin}/open?token=guess")
    expect(page.get_by_role("heading", name="This address was used before")).to_be_visible()
    page.goto(console.origin)
    expect(page.get_by_role("heading", name="Not signed in")).to_be_visible()
    other.close()


def test_the_cookie_is_closed_to_scripts_and_other_sites(
    context: BrowserContext, page: Page, console: Console
) -> None:
    (cookie,) = context.cookies()
    assert cookie.get("httpOnly") is True
    assert cookie.get("sameSite") == "Strict"
    page.goto(console.origin)
    assert page.evaluate("document.cookie") == ""


def test_every_answer_carries_the_headers(console: Console, context: BrowserContext) -> None:
    for path in ("/", "/nothing", "/static/console.css", "/open?token=x"):
        answer = ask(console, path, headers=our_own(console, context))
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers.get("x-content-type-options") == "nosniff"
        assert answer.headers.get("referrer-policy") == "same-origin"
        assert answer.headers.get("server") is None
        assert answer.headers.get("access-control-allow-origin") is None
    assert ask(console, "/", headers=our_own(console, context)).headers.get("cache-control") == "no-store"


@contextmanager
def site(page: str) -> Iterator[int]:
    """Somebody else's web site on another port of this machine; yields the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1"], ids=["another-site", "another-port"])
def test_a_form_on_another_page_changes_nothing(
    page: Page, context: BrowserContext, console: Console, host: str
) -> None:
    """A page on another port of 127.0.0.1 is the same site to a browser: its form carries our cookie."""
    page.goto(f"{console.origin}/user?account={MAIN}&name=web-frontend")
    page.get_by_role("button", name="Make inactive").click()
    page.get_by_role("heading", name="Deactivate AKIA").wait_for()
    plan, runs = urlsplit(page.url).path, len(recorded_runs())
    form = f"<form method=post action='{console.origin}{plan}/apply'><button>Win a prize</button></form>"
    with site(form) as port:
        page.goto(f"http://{host}:{port}/")
        page.get_by_role("button").click()
        expect(page.get_by_role("heading", name="another page; nothing was changed")).to_be_visible()
    assert len(recorded_runs()) == runs
    assert console.sandbox.key("web-frontend").status == "Active"


def test_another_page_can_neither_read_nor_frame_us(
    page: Page, context: BrowserContext, console: Console
) -> None:
    with site(f"<iframe src='{console.origin}/users'></iframe>") as port:
        page.goto(f"http://127.0.0.1:{port}/")
        read = "url => fetch(url, {credentials: 'include'}).then(answer => answer.text(), error => 'refused')"
        assert page.evaluate(read, f"{console.origin}/users") == "refused"
        frame = page.frames[1]
        assert "Users" not in frame.content()


def test_a_name_that_was_rebound_to_this_machine_gets_nothing(page: Page, console: Console) -> None:
    port = urlsplit(console.origin).port
    answer = page.goto(f"http://evil.example:{port}/users")
    assert answer
    assert answer.status == 421
    expect(page.get_by_role("heading", name="does not answer to that host name")).to_be_visible()


def test_no_secret_leaves(
    context: BrowserContext, console: Console, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every page, the plan's file and what is printed, searched for secrets that the practice AWS holds."""
    key = console.sandbox.operator
    answer = ask(console, "/plans", method="POST", headers=our_own(console, context), body=FORM)
    plan = answer.headers["location"]
    pages = [
        "/",
        "/users?show=all",
        f"/user?{FORM}",
        plan,
        f"{plan}/plan.json",
        "/held",
        "/runs",
        "/exemptions",
        "/x",
    ]
    received = [ask(console, path, headers=our_own(console, context)).text for path in pages]
    assert all(len(text) > 500 for text in received)
    secrets = [key.secret, *(console.sandbox.key(user).secret for user in ("web-frontend", "billing-export"))]
    result = capfd.readouterr()
    for text in (*received, result.out, result.err):
        for secret in secrets:
            assert secret not in text


@pytest.mark.parametrize(
    ("path", "body", "status", "received"),
    [
        ("/plans", "account=1&name=nobody", 400, "no IAM user 'nobody' was read in account 1"),
        ("/plans", "", 400, "no user is chosen"),
        ("/plans", f"{FORM}&keep=AKIAA&force=AKIAB&because=x", 400, "AKIA"),
        ("/plans", f"{FORM}&force=AKIAB", 400, "A reason is missing"),
        ("/plans", "x=%FF", 400, "The form cannot be read"),
        ("/plans", "&".join("x=1" for _ in range(60_000)), 400, "The form cannot be read"),
        ("/plans", "x=" + "1" * 3_000_000, 400, "The form is too large"),
        ("/plans/unknown/apply", "", 400, "plan is no longer on this page"),
        ("/runs/r-unknown/undo", "", 400, "no run match"),
    ],
    ids=["nobody", "none", "no-such-keys", "no-reason", "not-utf8", "fields", "size", "plan", "run"],
)
def test_bad_input_gets_a_sentence_and_no_traceback(
    console: Console, context: BrowserContext, path: str, body: str, status: int, received: str
) -> None:
    answer = ask(console, path, method="POST", headers=our_own(console, context), body=body)
    text = unescape(answer.text)
    assert answer.status == status
    assert received.lower() in text.lower()
    assert "Traceback" not in text


def hostile_usage(key: str) -> Usage:
    """An application that calls itself something that must stay text."""
    now = datetime.now(UTC)
    use = ServiceUse("s3", "us-east-1", ("GetObject",), 1, 0, now, now, timedelta(0), now)
    consumer = Consumer(SCRIPT, f"{IMAGE}{RIGHT_TO_LEFT}", (use,))
    return Usage(key, SCRIPT, now, now, 1, 0, 0, (consumer,), now, now, partial=(IMAGE,))


def test_hostile_names_and_texts_stay_text(browser: Browser, tmp_path: Path) -> None:
    with console_on(Sandbox(HOSTILE), tmp_path / "home", POLICY) as console:
        context = let_in(browser, console)
        page = context.new_page()
        names = [row.name for row in console.state.current_view().rows if row.name != "ops"]
        assert len(names) == 5
        for row in console.state.current_view().rows:
            for key in row.keys:
                console.state.usages[str(key.id)] = hostile_usage(str(key.id))
        paths = [
            "/",
            "/users?show=all",
            "/held",
            "/exemptions",
            "/runs",
            f"/users?{urlencode({'q': SCRIPT})}",
        ]
        paths += [f"/user?{urlencode({'account': MAIN, 'name': name})}" for name in names]
        for path in paths:
            answer = page.goto(console.origin + path)
            assert answer
            assert answer.status == 200, path
            assert page.evaluate(
                "window.broken === undefined && !document.querySelector('main img, main script')"
            )
            assert "\u202e" not in page.content(), f"{path} lets a name turn the text around it"
        page.goto(f"{console.origin}/users?show=all")
        expect(page.get_by_role("link", name="admin\\u202egnirts")).to_be_visible()
        expect(page.get_by_role("link", name="<script>")).to_be_visible()
        assert page.evaluate(
            "[...document.querySelectorAll('tbody th a')].every(a => a.children[0].tagName === 'BDI')"
        )
        page.get_by_role("link", name="..", exact=True).click()
        expect(page.get_by_role("heading", name=".. Security credentials")).to_be_visible()
        context.close()
