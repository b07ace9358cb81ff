"""An HTTP check: green where the status is the expected one and the body matches."""

import http.client
import re
import urllib.error
import urllib.request
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
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise PolicyError(f"probe {self.name!r} needs a url with http:// or https://")
        try:
            re.compile(self.body)
        except re.error as error:
            raise PolicyError(f"probe {self.name!r} has a pattern that is none: {error}") from error

    def ask(self, tools: Tools) -> Reading:
        """Fetch it; no answer is red, too: that is what a broken application looks like."""
        del tools
        try:
            status, body = _fetch(self.url, self.timeout)
        except (
            OSError,
            ValueError,
            http.client.HTTPException,
        ) as error:  # ValueError: a host that is no name
            return Reading(green=False, output=cut(f"no answer: {error}"))
        text = body.decode(errors="replace")
        if status != self.status:
            return Reading(green=False, output=cut(f"HTTP {status}, not {self.status}: {text}"))
        if not re.search(self.body, text):
            return Reading(
                green=False, output=cut(f"HTTP {status}, but nothing matches {self.body!r}: {text}")
            )
        return Reading(green=True, output=f"HTTP {status}")


def _fetch(url: str, timeout: float) -> tuple[int, bytes]:
    """Status and body, whatever the status; the body of an error may stall or break off, too."""
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(url, timeout=timeout) as answer:
            return answer.status, answer.read(_BODY_LIMIT)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(_BODY_LIMIT)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_named: object) -> None:
        """A redirect is an answer like any other."""
