"""The sandbox's one door: a request in, an answer out; and the ASGI app around it."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from sparekey.sandbox import account, cloudtrail, ec2, iam, organizations, s3, secretsmanager, sqs, ssm, sts
from sparekey.sandbox.auth import RequestSignature, authenticate, read_signature
from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.faults import FaultRules
from sparekey.sandbox.permissions import authorize
from sparekey.sandbox.protocols import (
    PROTOCOLS,
    RawRequest,
    RawResponse,
    guess_service,
    read_operation,
    render_error,
    render_response,
    target_matches,
)
from sparekey.sandbox.request import HIDDEN, ApiCall, Handler
from sparekey.sandbox.state import CallRecord, Company

_ACTIONS: dict[str, dict[str, Handler]] = {
    "account": account.ACTIONS,
    "cloudtrail": cloudtrail.ACTIONS,
    "ec2": ec2.ACTIONS,
    "iam": iam.ACTIONS,
    "organizations": organizations.ACTIONS,
    "secretsmanager": secretsmanager.ACTIONS,
    "sqs": sqs.ACTIONS,
    "ssm": ssm.ACTIONS,
    "sts": sts.ACTIONS,
}
# Refusals that come before the call is one: CloudTrail records none of them.
_NOT_RECORDED = frozenset({"Throttling", "InvalidClientTokenId"})
_GLOBAL = frozenset({"iam", "organizations"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def _signature(request: RawRequest) -> RequestSignature:
    signature = read_signature(request)
    if signature is None:
        raise ErrorReplyError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
    if signature.service not in PROTOCOLS:
        raise ErrorReplyError("InvalidAction", f"The sandbox has no service {signature.service}", 400)
    return signature


class PracticeAws:
    """An ASGI app that answers as AWS would; `handle` is the same without a socket."""

    def __init__(self, company: Company) -> None:
        self.serve_company(company)

    def serve_company(self, company: Company) -> None:
        """Answer for this company from now on."""
        self.company = company
        self.faults = FaultRules(company)

    def handle(self, request: RawRequest) -> RawResponse:
        """Answer one request; never raises for anything that a client sent."""
        with self.company.lock:
            request_id = self.company.uuid()
            service = guess_service(request)
            try:
                signature = _signature(request)
                service = signature.service
                call = self._call(request, signature, request_id)
            except ErrorReplyError as error:
                return render_error(service, error, request_id)
            return msgspec.structs.replace(self._serve(call), delay=self.faults.latency(call))

    def _call(self, request: RawRequest, signature: RequestSignature, request_id: str) -> ApiCall:
        """The call that a request is, its sender known; raises AwsError."""
        service = signature.service
        caller = authenticate(self.company, self.faults, request, signature)
        return ApiCall(
            company=self.company,
            faults=self.faults,
            caller=caller,
            operation=s3.operation(request) if service == "s3" else read_operation(request, service),
            request=request,
            region=self.company.global_region if service in _GLOBAL else signature.region,
            request_id=request_id,
            now=self.company.clock.now(),
            extra_events=[],
        )

    def _serve(self, call: ApiCall) -> RawResponse:
        error: ErrorReplyError | None = None
        try:
            response = self._execute(call)
        except ErrorReplyError as refused:
            error = refused
            response = render_error(call.operation.service, error, call.request_id)
        self._record_event(call, error)
        if error is None:
            try:
                self.faults.fail(call, after=True)
            except ErrorReplyError as lost:
                error = lost
                response = render_error(call.operation.service, error, call.request_id)
        self._record_call(call, response.status, error)
        return response

    def _execute(self, call: ApiCall) -> RawResponse:
        self.faults.throttle(call)
        self.faults.fail(call, after=False)
        self._record_use(call)
        if call.operation.service == "s3":
            authorize(call)
            return s3.serve(call)
        handler = self._handler(call)
        authorize(call)
        return render_response(call.operation, handler(call), call.request_id)

    @staticmethod
    def _handler(call: ApiCall) -> Handler:
        service, action = call.operation.service, call.operation.action
        handler = _ACTIONS[service].get(action)
        if handler is None or (PROTOCOLS[service] == "json" and not target_matches(call.request, service)):
            raise ErrorReplyError(
                "InvalidAction", f"Could not find operation {action} of the service {service}", 400
            )
        return handler

    def _record_use(self, call: ApiCall) -> None:
        """A signed and accepted request is a use of the key, even one that is then denied."""
        key = self.company.keys.get(call.caller.key)
        if key is not None:
            key.used(call.now, call.operation.service, call.region)

    def _record_event(self, call: ApiCall, error: ErrorReplyError | None) -> None:
        """Record the call as CloudTrail does, in both accounts where two are concerned."""
        if error is None:
            for event in (call.event(), *call.extra_events):
                self.company.trail.add(event)
        elif error.code not in _NOT_RECORDED and error.status < 500:
            self.company.trail.add(call.event(error.code, error.message))

    def _record_call(self, call: ApiCall, status: int, error: ErrorReplyError | None) -> None:
        """Record the call and its outcome as the client saw it."""
        params = {name: str(value) for name, value in call.params.items() if name not in HIDDEN}
        record = CallRecord(
            at=call.now,
            action=call.action,
            account=call.caller.account,
            caller=call.caller.arn,
            key=call.caller.key,
            params=params,
            status=status,
            error=error.code if error else "",
        )
        self.company.calls.append(record)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        if scope["type"] != "http":
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        client = scope.get("client") or ("127.0.0.1", 0)
        response = self.handle(
            RawRequest(
                method=scope["method"],
                path=scope.get("raw_path", scope["path"].encode()).decode("ascii"),
                query=scope["query_string"].decode("ascii"),
                headers={
                    name.decode("latin-1").lower(): value.decode("latin-1")
                    for name, value in scope["headers"]
                },
                body=bytes(body),
                client=client[0],
            )
        )
        await self.company.clock.pause(response.delay)
        headers = [(name.encode(), value.encode()) for name, value in response.headers.items()]
        headers.append((b"Content-Length", str(len(response.body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        content = b"" if scope["method"] == "HEAD" else response.body
        await send({"type": "http.response.body", "body": content})
