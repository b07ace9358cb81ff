"""HTTP requests that follow no redirect: the redirect itself is the response.

A followed redirect would send a message, and the secret in its address, to another host; and a probe would check
something else than the address that the policy names.
"""

from typing import Any
from urllib.request import BaseHandler, HTTPRedirectHandler, OpenerDirector, build_opener


class _RefuseRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        """None: urllib then raises HTTPError with the redirect's own status."""
        return


def opener_without_redirects(*handlers: BaseHandler) -> OpenerDirector:
    """An opener with these handlers; a redirect raises `urllib.error.HTTPError` as any status over 299 does."""
    return build_opener(_RefuseRedirects, *handlers)
