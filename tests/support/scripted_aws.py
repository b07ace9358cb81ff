"""What the gateway's tests share: a clock that never waits, a scripted AWS, answers in AWS's own words."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from botocore.loaders import create_loader
from botocore.session import Session

from sparekey.aws.client import OnCall
from sparekey.aws.gateway import AccountGateway, AwsGateway
from sparekey.aws.http_pool import HttpRequest, HttpResponse
from support.clocks import VirtualClock

_LOADER = create_loader()  # read once: each session would read its models anew
ACCOUNT = "111122223333"
CALLER = f"arn:aws:iam::{ACCOUNT}:user/ops/admin"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


Answer = HttpResponse | Exception
Script = Callable[[dict[str, str]], Answer]


class ScriptedAws:
    """Answers by action: each a function of the parameters, or answers that are used up in turn."""

    def __init__(self, **answers: Script | list[Answer]) -> None:
        self.requests: list[HttpRequest] = []
        self.call_names: list[dict[str, str]] = []
        self._answers: dict[str, Script] = {"GetCallerIdentity": lambda _: identity()}
        for action, answer in answers.items():
            self._answers[action] = _in_turn(answer) if isinstance(answer, list) else answer

    def send(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        asked = dict(parse_qsl(request.body.decode()))
        self.call_names.append(asked)
        answer = self._answers[asked["Action"]](asked)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def count(self, action: str) -> int:
        return sum(asked["Action"] == action for asked in self.call_names)


def _in_turn(answers: list[Answer]) -> Script:
    rest = iter(answers)
    return lambda _: next(rest)


def ok(action: str, inner: str = "") -> HttpResponse:
    """A good answer of a query service."""
    body = (
        f'<{action}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
        f"<{action}Result>{inner}</{action}Result>"
        f"<ResponseMetadata><RequestId>req-{action}</RequestId></ResponseMetadata></{action}Response>"
    )
    return HttpResponse(200, {"content-type": "text/xml"}, body.encode())


def failure(code: str, status: int = 400, message: str = "No.") -> HttpResponse:
    """An error of a query service."""
    body = (
        '<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>req-1</RequestId></ErrorResponse>"
    )
    return HttpResponse(status, {"content-type": "text/xml"}, body.encode())


def identity(arn: str = CALLER, account: str = ACCOUNT) -> HttpResponse:
    return ok("GetCallerIdentity", f"<Arn>{arn}</Arn><UserId>AIDA</UserId><Account>{account}</Account>")


def user_xml(name: str, path: str = "/") -> str:
    return (
        f"<member><UserName>{name}</UserName><Path>{path}</Path><UserId>AIDA{name}</UserId>"
        f"<Arn>arn:aws:iam::{ACCOUNT}:user{path}{name}</Arn><CreateDate>2025-01-01T00:00:00Z</CreateDate></member>"
    )


def key_xml(
    key_id: str, status: str = "Active", created: str = "2026-01-01T00:00:00Z", user: str = ""
) -> str:
    name = f"<UserName>{user}</UserName>" if user else ""
    return (
        f"<member>{name}<AccessKeyId>{key_id}</AccessKeyId><Status>{status}</Status>"
        f"<CreateDate>{created}</CreateDate></member>"
    )


def page(items: str, members: str, marker: str = "") -> str:
    tail = f"<Marker>{marker}</Marker>" if marker else ""
    return f"<{items}>{members}</{items}><IsTruncated>{'true' if marker else 'false'}</IsTruncated>{tail}"


def session(**variables: Any) -> Session:
    """A botocore session that sees no file and no variable of this machine but what the test set."""
    made = Session(session_vars={"config_file": (None, None, "/nonexistent/config", None)})
    made.register_component("data_loader", _LOADER)
    made.set_credentials("AKIAIOSFODNN7EXAMPLE", "secretsecretsecret")
    for name, value in variables.items():
        made.set_config_variable(name, value)
    return made


def connect(aws: ScriptedAws, clock: VirtualClock | None = None, on_call: OnCall | None = None) -> AwsGateway:
    return AwsGateway.connect(
        session=session(),
        region="eu-central-1",
        clock=clock or VirtualClock(START),
        send=aws.send,
        on_call=on_call,
    )


def own_account(aws: ScriptedAws, clock: VirtualClock | None = None) -> AccountGateway:
    return connect(aws, clock).own_account()


def asgi_send(app: Callable[..., Any]) -> Callable[[HttpRequest], HttpResponse]:
    """Drive an ASGI application in this process, without a socket."""

    async def exchange(request: HttpRequest) -> HttpResponse:
        url = urlsplit(request.url)
        sent: dict[str, Any] = {"status": 500, "headers": {}, "body": b""}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = {key.decode().lower(): value.decode() for key, value in message["headers"]}
                sent.update(status=message["status"], headers=headers)
            else:
                sent["body"] += message.get("body", b"")

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": url.scheme,
            "path": url.path or "/",
            "raw_path": (url.path or "/").encode(),
            "query_string": url.query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in request.headers.items()],
            "client": ("127.0.0.1", 1),
            "server": (url.hostname, url.port or 80),
        }
        await app(scope, receive, send)
        return HttpResponse(sent["status"], sent["headers"], sent["body"])

    return lambda request: asyncio.run(exchange(request))
