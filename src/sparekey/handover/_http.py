"""JSON over HTTPS for destinations that are no AWS: what is sent and answered is in no error."""

import json
import ssl
from collections.abc import Mapping
from email.message import Message
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, Request

from sparekey.handover.interface import HandoverError
from sparekey.redirects import opener_without_redirects

_SECONDS = 20.0
_LARGEST_ANSWER = 1024 * 1024
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


class Answer(NamedTuple):
    """The status of an answer, its JSON object (empty where it has none), and its headers by lower-case name."""

    status: int
    content: dict[str, Any]
    headers: Mapping[str, str]


class JsonApi:
    """One server; `headers` are sent with each request, and `context` is how it is trusted."""

    def __init__(
        self,
        name: str,
        address: str,
        headers: Mapping[str, str],
        context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(address)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise HandoverError(
                f"the address of {name} does not begin with https://", "A key is not sent in the clear."
            )
        self.name, self._address, self._headers = name, address.rstrip("/"), dict(headers)
        self._opener = opener_without_redirects(HTTPSHandler(context=context))

    def ask(
        self, method: str, path: str, content: object = None, content_type: str = "application/json"
    ) -> Answer:
        """One request; raises HandoverError (temporary) where no answer came, or the server says "later"."""
        body = None if content is None else json.dumps(content).encode()
        headers = {**self._headers, "Accept": "application/json", "User-Agent": "sparekey"}
        if body is not None:
            headers["Content-Type"] = content_type
        request = Request(self._address + path, body, headers, method=method)  # noqa: S310  # https, see above
        try:
            with self._opener.open(request, timeout=_SECONDS) as response:
                return _answer(response.status, response.read(_LARGEST_ANSWER), response.headers)
        except HTTPError as error:
            with error:
                answer = _answer(error.code, error.read(_LARGEST_ANSWER), error.headers)
            if answer.status in _LATER:
                raise HandoverError(f"{self.name} answers HTTP {answer.status}", temporary=True) from None
            return answer
        except (URLError, OSError, ValueError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            why = getattr(reason, "strerror", None) or type(reason).__name__
            raise HandoverError(f"no answer from {self.name}: {why}", temporary=True) from None


def _answer(status: int, body: bytes, headers: Message) -> Answer:
    try:
        content = json.loads(body) if body else {}
    except ValueError:
        content = {}
    named = {name.lower(): value for name, value in headers.items()}
    return Answer(status, content if isinstance(content, dict) else {}, named)


def required(environ: Mapping[str, str], *names: str) -> str:
    """The first of these variables that is set; raises HandoverError where none is."""
    for name in names:
        if environ.get(name):
            return environ[name]
    raise HandoverError(f"the variable {names[0]} is not set", f"Set {' or '.join(names)} for sparekey.")
