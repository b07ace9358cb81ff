"""An HTTP check: green where the status is the expected one and the body matches."""

import http.client
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import cast
from urllib.parse import urlsplit

from sparekey.policy import PolicyError
from sparekey.probes import Common, Reading, Tools, cut

_BODY_LIMIT = 1024 * 1024


class Probe(Common, frozen=True, kw_only=True):
    """`url` is fetched without following redirects; `body` is a regular expression that it must match."""

    url: str
    status: int = 200
    body: str = ""

    def check(self) -> None:
        """Raise PolicyError for a URL that is not HTTP, or a pattern that is none."""
        super().check()
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PolicyError(f"probe {self.name!r} needs a url with http:// or https://")
        if "@" in parts.netloc:
            why = f"probe {self.name!r} has a user or password in its url"
            raise PolicyError(why, "The policy is kept in each run's ledger: ask by a command that knows it.")
        try:
            re.compile(self.body)
        except re.error as error:
            raise PolicyError(f"probe {self.name!r} has a pattern that is none: {error}") from error

    def ask(self, tools: Tools) -> Reading:
        """Fetch it; no answer is red, too: that is what a broken application looks like."""
        del tools
        fetched = _fetch_in_time(self.url, self.timeout)
        if isinstance(fetched, str):
            return Reading(green=False, output=cut(f"no answer: {fetched}"))
        status, body = fetched
        text = body.decode(errors="replace")
        if status != self.status:
            return Reading(green=False, output=cut(f"HTTP {status}, not {self.status}: {text}"))
        if not re.search(self.body, text):
            return Reading(
                green=False, output=cut(f"HTTP {status}, but nothing matches {self.body!r}: {text}")
            )
        return Reading(green=True, output=f"HTTP {status}")


_Fetched = tuple[int, bytes] | str


def _fetch_in_time(url: str, timeout: float) -> _Fetched:
    """Status and body, or why there are none within `timeout` seconds.

    A time limit of a socket begins anew with each byte, and looking up a name has none: so a thread does it.
    """
    answers: SimpleQueue[_Fetched] = SimpleQueue()
    late = f"no end after {timeout:g} s"

    def fetch() -> None:
        try:
            answers.put(_fetch(url, timeout))
        except TimeoutError:
            answers.put(late)
        except (OSError, ValueError, http.client.HTTPException) as error:
            answers.put(str(error))  # ValueError: a host that is no name

    threading.Thread(target=fetch, daemon=True).start()
    try:
        return answers.get(timeout=timeout)
    except Empty:
        return late


def _fetch(url: str, timeout: float) -> tuple[int, bytes]:
    """Status and body, whatever the status; the body of an error may stall or break off, too."""
    opener = urllib.request.build_opener(_NoRedirect)
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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_named: object) -> None:
        """A redirect is an answer like any other."""
