"""One HTTPS POST: no redirect is followed, and no error shows more of the address than its host."""

import http.client
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPSHandler, Request

import msgspec

from sparekey import __version__
from sparekey.errors import BadInputError
from sparekey.notify._settings import is_loopback
from sparekey.notify.interface import NotifyError, NotifySettings
from sparekey.redirects import opener_without_redirects


def check_url(url: str) -> None:
    """Raise BadInputError unless the message is sent encrypted, or within this machine."""
    parts = _split(url)
    if not parts or not parts.hostname:
        raise BadInputError("a webhook has no usable address", "Write the whole address: webhook:https://…")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise BadInputError(f"the webhook at {parts.hostname} is not https", "Only https is used.")


def host_of(url: str) -> str:
    """All of a webhook's address that may be shown."""
    parts = _split(url)
    return (parts.hostname or "…") if parts else "…"


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises ValueError where it is none
    except ValueError:
        return None
    return parts


def post(url: str, body: Mapping[str, Any], settings: NotifySettings) -> None:
    """Post JSON; raises NotifyError, with the host alone, unless the answer is 2xx."""
    headers = {"Content-Type": "application/json", "User-Agent": f"sparekey/{__version__}"}
    request = Request(url, msgspec.json.encode(body), headers, method="POST")  # noqa: S310  # see check_url
    opener = opener_without_redirects(HTTPSHandler(context=ssl.create_default_context()))
    try:
        with opener.open(request, timeout=settings.timeout) as answer:
            status = answer.status
    except HTTPError as error:
        status = error.code
        error.close()
    except (OSError, http.client.HTTPException) as error:
        raise NotifyError(f"{host_of(url)} could not be reached: {_failure_reason(error)}") from None
    if not 200 <= status < 300:
        raise NotifyError(f"{host_of(url)} answered HTTP {status}")


def _failure_reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return "it did not answer in time"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({reason.verify_message})"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return type(reason).__name__
