"""An HTTP check: healthy where the status is the expected one and the body matches."""

import http.client
import re
import threading
import time
import urllib.error
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import cast
from urllib.parse import urlsplit

from sparekey import patterns
from sparekey.policy import FieldError, check_regex
from sparekey.probes.interface import BaseProbe, ProbeResult, ProbeTools, shorten_output
from sparekey.redirects import opener_without_redirects

_BODY_LIMIT = 1024 * 1024
_URL = re.compile(r"[!-~]+")  # what http.client takes: no blanks, no control characters


class HttpProbe(BaseProbe, frozen=True, kw_only=True):
    """`url` is fetched without following redirects; `body` is a regular expression that it must match."""

    url: str
    status: int = 200
    body: str = ""

    def validate(self) -> None:
        """Raise FieldError for a URL that no request can be made to, or a pattern that is none."""
        super().validate()
        try:
            parts = urlsplit(self.url)
            host, _port = (parts.hostname or "").encode("idna"), parts.port
        except ValueError as error:  # UnicodeError is one, too
            raise FieldError("url", f"{self.url[:200]!r} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not host or not _URL.fullmatch(self.url):
            raise FieldError("url", f"{self.url[:200]!r} is not a URL that begins with http:// or https://")
        if "@" in parts.netloc:
            why = "it has a user or password in it"
            raise FieldError(
                "url", why, "The policy is kept in each run's ledger: ask by a command that knows it."
            )
        if not 100 <= self.status <= 599:
            raise FieldError("status", f"{self.status} is not a status of HTTP")
        check_regex(self.body, "body")
        if patterns.size(self.body) > patterns.LARGEST_FOR_LONG_TEXT:
            raise FieldError(
                "body", f"{self.body[:60]!r} repeats too much: searching a body would take too long"
            )

    def check(self, tools: ProbeTools) -> ProbeResult:
        """Fetch it; no answer is unhealthy, too: that is what a broken application looks like."""
        del tools
        answered = _within(self._request, self.timeout)
        return (
            ProbeResult(healthy=False, output=f"no answer: {answered}")
            if isinstance(answered, str)
            else answered
        )

    def _request(self) -> ProbeResult:
        status, body = _fetch(self.url, self.timeout)
        text = body.decode(errors="replace")
        if status != self.status:
            return ProbeResult(
                healthy=False, output=f"HTTP {status}, not {self.status}: {shorten_output(text)}"
            )
        try:
            matches = patterns.matches(self.body, text)
        except patterns.PatternError as error:
            return ProbeResult(healthy=None, output=error.message)
        if not matches:
            return ProbeResult(
                healthy=False, output=f"HTTP {status}, but the body does not match: {shorten_output(text)}"
            )
        return ProbeResult(healthy=True, output=f"HTTP {status}")


def _within(ask: Callable[[], ProbeResult], timeout: float) -> ProbeResult | str:
    """The reading, or why there is none within `timeout` seconds.

    A time limit of a socket starts again with each byte, looking up a name has none, and searching a body may
    take seconds: so a thread does it.
    """
    answers: SimpleQueue[ProbeResult | str] = SimpleQueue()
    late = f"no end after {timeout:g} s"

    def work() -> None:
        try:
            answers.put(ask())
        except TimeoutError:
            answers.put(late)
        except (OSError, ValueError, http.client.HTTPException) as error:
            answers.put(str(error))  # ValueError: a host that is no name

    threading.Thread(target=work, daemon=True).start()
    try:
        return answers.get(timeout=timeout)
    except Empty:
        return late


def _fetch(url: str, timeout: float) -> tuple[int, bytes]:
    """Status and body, whatever the status; the body of an error may stall or break off, too."""
    opener = opener_without_redirects()
    deadline = time.monotonic() + timeout
    try:
        with opener.open(url, timeout=timeout) as answer:
            return answer.status, _body(answer.read1, deadline)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _body(cast("http.client.HTTPResponse", error.fp).read1, deadline)


def _body(read: Callable[[int], bytes], deadline: float) -> bytes:
    """The beginning of a body; raises TimeoutError, for nobody waits any more once the deadline is over."""
    body = b""
    while len(body) < _BODY_LIMIT and (chunk := read(_BODY_LIMIT - len(body))):
        body += chunk
        if time.monotonic() > deadline:
            raise TimeoutError
    return body


PROBE = HttpProbe
