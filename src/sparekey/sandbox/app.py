"""The sandbox's one door: a request in, an answer out; and the ASGI app around it."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from sparekey.sandbox import cloudtrail, iam, organizations, regions, s3, sqs, sts
from sparekey.sandbox.auth import Signature, authenticate, read_signature
from sparekey.sandbox.errors import AwsError
from sparekey.sandbox.faults import Faults
from sparekey.sandbox.permissions import authorize
from sparekey.sandbox.protocols import (
    PROTOCOLS,
    Request,
    Response,
    answer,
    guess_service,
    read_operation,
    refusal,
    target_matches,
)
from sparekey.sandbox.request import Call, Handler
from sparekey.sandbox.state import CallRecord, Company

_ACTIONS: dict[str, dict[str, Handler]] = {
    "account": regions.ACCOUNT_ACTIONS,
    "cloudtrail": cloudtrail.ACTIONS,
    "ec2": regions.EC2_ACTIONS,
    "iam": iam.ACTIONS,
    "organizations": organizations.ACTIONS,
    "sqs": sqs.ACTIONS,
    "sts": sts.ACTIONS,
}
# Refusals that come before the call is one: CloudTrail records none of them.
_UNRECORDED = frozenset({"Throttling", "InvalidClientTokenId"})
_GLOBAL = frozenset({"iam", "organizations"})
_SECRETS = frozenset({"TokenCode", "MessageBody"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def _signature(request: Request) -> Signature:
    signature = read_signature(request)
    if signature is None:
        raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
    if signature.service not in PROTOCOLS:
        raise AwsError("InvalidAction", f"The sandbox has no service {signature.service}", 400)
    return signature


class PracticeAws:
    """An ASGI app that answers as AWS would; `handle` is the same without a socket."""

    def __init__(self, company: Company) -> None:
        self.answer_for(company)

    def answer_for(self, company: Company) -> None:
        """Answer for this company from now on."""
        self.company = company
        self.faults = Faults(company)

    def handle(self, request: Request) -> Response:
        """Answer one request; never raises for anything that a client sent."""
        with self.company.lock:
            request_id = self.company.uuid()
            service = guess_service(request)
            try:
                signature = _signature(request)
                service = signature.service
                call = self._call(request, signature, request_id)
            except AwsError as error:
                return refusal(service, error, request_id)
            return msgspec.structs.replace(self._serve(call), delay=self.faults.latency(call))

    def _call(self, request: Request, signature: Signature, request_id: str) -> Call:
        """The call that a request is, its sender known; raises AwsError."""
        service = signature.service
        caller = authenticate(self.company, self.faults, request, signature)
        return Call(
            company=self.company,
            faults=self.faults,
            caller=caller,
            operation=s3.operation(request) if service == "s3" else read_operation(request, service),
            request=request,
            region=self.company.global_region if service in _GLOBAL else signature.region,
            request_id=request_id,
            now=self.company.clock.now(),
            also=[],
        )

    def _serve(self, call: Call) -> Response:
        error: AwsError | None = None
        try:
            response = self._work(call)
        except AwsError as refused:
            error = refused
            response = refusal(call.operation.service, error, call.request_id)
        self._trail(call, error)
        if error is None:
            try:
                self.faults.fail(call, after=True)
            except AwsError as lost:
                error = lost
                response = refusal(call.operation.service, error, call.request_id)
        self._note(call, response.status, error)
        return response

    def _work(self, call: Call) -> Response:
        self.faults.throttle(call)
        self.faults.fail(call, after=False)
        self._note_use(call)
        if call.operation.service == "s3":
            authorize(call)
            return s3.serve(call)
        handler = self._handler(call)
        authorize(call)
        return answer(call.operation, handler(call), call.request_id)

    @staticmethod
    def _handler(call: Call) -> Handler:
        service, action = call.operation.service, call.operation.action
        handler = _ACTIONS[service].get(action)
        if handler is None or (PROTOCOLS[service] == "json" and not target_matches(call.request, service)):
            raise AwsError(
                "InvalidAction", f"Could not find operation {action} of the service {service}", 400
            )
        return handler

    def _note_use(self, call: Call) -> None:
        """A signed and accepted request is a use of the key, even one that is then denied."""
        key = self.company.keys.get(call.caller.key)
        if key is not None:
            key.used(call.now, call.operation.service, call.region)

    def _trail(self, call: Call, error: AwsError | None) -> None:
        """Record the call as CloudTrail does, in both accounts where two are concerned."""
        if error is None:
            for event in (call.event(), *call.also):
                self.company.trail.add(event)
        elif error.code not in _UNRECORDED and error.status < 500:
            self.company.trail.add(call.event(error.code, error.message))

    def _note(self, call: Call, status: int, error: AwsError | None) -> None:
        """Note the call for whoever asks the sandbox, as its client saw it end."""
        params = {name: str(value) for name, value in call.params.items() if name not in _SECRETS}
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
            Request(
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
