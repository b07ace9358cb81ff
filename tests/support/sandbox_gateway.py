"""Our gateway in front of a sandbox in this process: no socket, its own clock, every call recorded."""

from urllib.parse import urlsplit

from botocore.session import Session

from sparekey.aws.gateway import AwsGateway
from sparekey.aws.http_pool import HttpRequest, HttpResponse
from sparekey.sandbox import Sandbox
from sparekey.sandbox.protocols import RawRequest as SandboxRequest
from support.scripted_aws import session


class SandboxGateway:
    """A sandbox and a gateway with one user's credentials."""

    def __init__(self, scenario: str, user: str = "", *, account: str = "") -> None:
        self.sandbox = Sandbox(scenario)
        key = self.sandbox.key(user, account=account) if user else self.sandbox.operator
        self.calls: list[tuple[str, str, str]] = []
        made: Session = session()
        made.set_credentials(key.id, key.secret)
        self.gateway = AwsGateway.connect(
            session=made,
            region="us-east-1",
            clock=self.sandbox.clock,
            send=self._send,
            on_call=lambda *call: self.calls.append(call),
        )

    @property
    def call_names(self) -> set[str]:
        """The actions that were called, as policies write them."""
        return {f"{service}:{action}" for _, service, action in self.calls}

    def _send(self, request: HttpRequest) -> HttpResponse:
        url = urlsplit(request.url)
        headers = {name.lower(): value for name, value in request.headers.items()}
        answer = self.sandbox.handle(
            SandboxRequest(
                method=request.method,
                path=url.path or "/",
                query=url.query,
                headers=headers,
                body=request.body,
                client="127.0.0.1",
            )
        )
        received = {name.lower(): value for name, value in answer.headers.items()}
        return HttpResponse(answer.status, received, answer.body)
