"""Who may come in: known host names, the browser that opened the printed address, no other site's forms."""

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sparekey.console.connections import ConsoleProtocol

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with that, browsers send `Origin: null` with our own forms.
    # https://fetch.spec.whatwg.org/#append-a-request-origin-header
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
OPEN_PATHS = "/open"
STATIC = "/static/"

Refuse = Callable[[int, str, str], ASGIApp]


class BrowserSession:
    """The one-time token of the printed address, and the cookie that it is turned into."""

    def __init__(self, port: int) -> None:
        self.cookie_name = f"sparekey-{port}"  # cookies know no ports: two consoles must not overwrite one
        self.token = secrets.token_urlsafe(32)
        self._cookie = secrets.token_urlsafe(32)
        self._spent = False

    def exchange(self, token: str) -> str | None:
        """The cookie for the token, once; None for a wrong or spent one."""
        if self._spent or not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        self._spent = True
        return self._cookie

    def admits(self, cookie: str) -> bool:
        """True for the cookie that the token was turned into."""
        return self._spent and hmac.compare_digest(cookie.encode(), self._cookie.encode())


class RequestGuard:
    """Refuses what did not come from our own pages, and puts the security headers on every answer."""

    def __init__(
        self, app: ASGIApp, *, hosts: frozenset[str], session: BrowserSession, refuse: Refuse
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._session = session
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            headers = Headers(scope=scope)
            refused = self._refusal(scope, headers)
            answer = _with_headers(scope["path"], send, close=_has_two_lengths(headers))
            await (refused or self._app)(scope, receive, answer)

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        if _has_two_lengths(headers):
            return self._refuse(400, "this request states its length twice; nothing was changed", "")
        if headers.get("host", "") not in self._hosts:
            # A name that was rebound to this machine: https://en.wikipedia.org/wiki/DNS_rebinding
            return self._refuse(421, "this page does not answer to that host name", "")
        if scope["path"].startswith(STATIC):
            return None
        if scope["method"] not in ("GET", "HEAD") and not self._our_own(headers):
            return self._refuse(403, "this request came from another page; nothing was changed", "")
        if scope["path"] == OPEN_PATHS:
            return None
        cookies = cookie_parser(headers.get("cookie", ""))
        if not self._session.admits(cookies.get(self._session.cookie_name, "")):
            return self._refuse(
                403,
                "not signed in",
                "Open the address that `sparekey console` printed; it works once. Else start it again.",
            )
        _admit_connection(scope)
        return None

    def _our_own(self, headers: Headers) -> bool:
        """True where a browser says that the request comes from a page of this very origin."""
        site = headers.get("sec-fetch-site", "same-origin")  # only sent to loopback and over TLS
        return headers.get("origin", "") == f"http://{headers['host']}" and site == "same-origin"


def _admit_connection(scope: Scope) -> None:
    connection = scope.get("state", {}).get("connection")
    if isinstance(connection, ConsoleProtocol):
        connection.admit()


def _has_two_lengths(headers: Headers) -> bool:
    """True for a request whose end two readers may see in different places (RFC 9112, section 6.1)."""
    return "content-length" in headers and "transfer-encoding" in headers


def _with_headers(path: str, send: Send, *, close: bool) -> Callable[[Message], Awaitable[None]]:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if close:
                headers["Connection"] = "close"
            if path.startswith(STATIC):
                headers["Cache-Control"] = "max-age=3600"
        await send(message)

    return answer
