"""botocore's clients without a socket: answers from a hook on its `before-send` event."""

from typing import Any
from urllib.parse import urlsplit

from sparekey.sandbox.app import PracticeAws
from sparekey.sandbox.protocols import RawRequest


class _ResponseHeaders(dict[str, str]):
    """Header names are told apart without case."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in headers.items()})

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())


class InProcessResponse:
    """As much of botocore's AWSResponse as its parsers look at."""

    def __init__(self, url: str, status: int, headers: dict[str, str], body: bytes) -> None:
        self.url = url
        self.status_code = status
        self.headers = _ResponseHeaders(headers)
        self.content = body
        self.raw = self

    def read(self, size: int = -1) -> bytes:
        """Read from the body, for answers that are streams."""
        end = len(self.content) if size is None or size < 0 else size
        piece, self.content = self.content[:end], self.content[end:]
        return piece


class SendToApp:
    """The hook: `session.events.register("before-send", BeforeSend(app))`."""

    def __init__(self, app: PracticeAws, client: str = "127.0.0.1") -> None:
        self._app = app
        self._client = client

    def __call__(self, request: Any, **_: Any) -> InProcessResponse:
        """Answer a prepared request."""
        parts = urlsplit(request.url)
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
        }
        headers.setdefault("host", parts.netloc)
        body = request.body or b""
        if hasattr(body, "read"):
            body = body.read()
        response = self._app.handle(
            RawRequest(
                method=request.method,
                path=parts.path or "/",
                query=parts.query,
                headers=headers,
                body=body.encode() if isinstance(body, str) else bytes(body),
                client=self._client,
            )
        )
        self._app.company.clock.sleep(response.delay)
        return InProcessResponse(request.url, response.status, response.headers, response.body)
