"""One client for every account: signed requests over one pool, each with its own account's credentials.

What to send where comes from botocore (credential chain, endpoints, serializers, signer, error shapes); the
wire, the retries and the pacing are ours: a botocore session per account costs 10 MB, and a call 1 ms of CPU.
"""

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

import msgspec
from botocore import parsers, serialize
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session
from botocore.utils import parse_timestamp

from sparekey.aws.credential_errors import bad_setting
from sparekey.aws.errors import (
    TRANSIENT,
    AwsError,
    ErrorResponse,
    ExpiredCredentialsError,
    MalformedResponseError,
    RejectedCredentialsError,
    SessionEndedError,
    ThrottledError,
    UnreachableError,
    error_from_botocore,
    error_from_response,
)
from sparekey.aws.http_pool import ConnectionLostError, HttpPool, HttpRequest, HttpResponse, Send
from sparekey.aws.rate_limiter import RateLimiter
from sparekey.aws.request_signing import DIRECT_CALLS, Signer, UnsignedRequest, botocore_request
from sparekey.clock import Clock
from sparekey.errors import SparekeyError, without_password

# botocore's standard mode: three attempts, jittered exponential backoff of at most 20 seconds.
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
_ATTEMPTS = 3
_LONGEST_BACKOFF = 20.0
# A throttled call is retried for longer: it was refused for the pace, and the pace slows down meanwhile.
_THROTTLED_ATTEMPTS = 20
_THROTTLED_BACKOFF = 0.05
_TRANSIENT_STATUS = frozenset({500, 502, 503, 504})

OnCall = Callable[[str, str, str], None]


# What was called and how it ended; never what was sent or received.
_LOG = logging.getLogger(__name__)


class Credentials(Protocol):
    """botocore's credentials: refreshed when they are asked for."""

    def get_frozen_credentials(self) -> Any:
        """The access key, secret key and token of this moment."""
        ...


@runtime_checkable
class RenewableCredentials(Protocol):
    """Credentials of a session, of which another can be taken."""

    def discard(self, used: str = "") -> None:
        """Forget the session, if its key is the one that was used; another is taken when it is needed."""
        ...


class Principal(msgspec.Struct, frozen=True, gc=False):
    """Whose credentials sign, and the account that the pace is kept for."""

    account: str
    credentials: Credentials


class ServiceModel:
    """One AWS service at one endpoint, as botocore would call it."""

    def __init__(self, session: Session, name: str, region: str | None) -> None:
        config = Config(user_agent_extra="sparekey")
        client = session.create_client(name, region_name=region, config=config)
        self.name = name
        self.partition: str = client.meta.partition
        self.model = client.meta.service_model
        self.serializer = serialize.create_serializer(  # AWS validates better than a length check here
            self.model.resolved_protocol, include_validation=False
        )
        factory = parsers.ResponseParserFactory()
        factory.set_parser_defaults(timestamp_parser=_timestamp)
        self.parser = factory.create_parser(self.model.resolved_protocol)
        asked = botocore_request(client, name)
        # SigV4 fills the header that a password would need, so one in the address is of no use: it is dropped.
        self.url, self.signing_name, self.region = (
            without_password(asked.url),
            asked.signing_name,
            asked.region,
        )
        self._base = self.url.removesuffix(self._request_path(client, DIRECT_CALLS[name]))
        self._host = urlsplit(self.url).netloc
        self._agent = asked.agent

    def _request_path(self, client: Any, method: str) -> str:
        action = client.meta.method_to_api_mapping[method]
        # Some protocols have a path of their own for each operation, whatever the model's `requestUri`.
        return str(self.serializer.serialize_to_request({}, self.model.operation_model(action))["url_path"])

    def request(self, action: str, params: Mapping[str, Any]) -> "UnsignedRequest":
        """The request for an action, not yet signed."""
        parts = self.serializer.serialize_to_request(params, self.model.operation_model(action))
        body = parts["body"]
        raw = body if isinstance(body, bytes) else urlencode(body, doseq=True).encode()
        headers = {"Host": self._host, "User-Agent": self._agent, **parts["headers"]}
        return UnsignedRequest(self._base + parts["url_path"], headers, raw)

    def parse(self, action: str, response: HttpResponse) -> dict[str, Any]:
        """The answer in botocore's shape: the output, or `Error`."""
        shape = self.model.operation_model(action).output_shape
        content = {
            "status_code": response.status,
            "headers": response.headers,
            "body": response.body,
            "context": {},
        }
        parsed: dict[str, Any] = self.parser.parse(content, shape)
        return parsed


def _is_new_role_not_visible(service: ServiceModel, error: AwsError) -> bool:
    """True where AWS knows the session no more: its role was deleted, and may be there again, with another id.

    Of other services the same answer may mean that a region is not enabled.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids
    """
    return (
        service.name in ("iam", "sts")
        and isinstance(error, RejectedCredentialsError)
        and error.code == "InvalidClientTokenId"
    )


def _timestamp(value: Any) -> datetime:
    """A time as AWS's XML writes it at a fiftieth of the cost, any other as botocore reads it."""
    with contextlib.suppress(TypeError, ValueError):
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    parsed: datetime = parse_timestamp(value)
    return parsed


class AwsClient:
    """Calls AWS for any principal; thread-safe.

    `send` replaces the network; `on_call` gets every request as (account, service, action).
    """

    def __init__(
        self,
        session: Session,
        region: str | None,
        clock: Clock,
        *,
        send: Send | None = None,
        on_call: OnCall | None = None,
    ) -> None:
        self.clock = clock
        self.region = region
        self._session = session
        self._lock = threading.RLock()
        self._services: dict[tuple[str, str | None], ServiceModel] = {}
        self._rate_limiters: dict[str, _AccountRateLimiters] = {}
        self._on_call = on_call
        self._send = send or HttpPool(session.get_config_variable("ca_bundle")).send
        self._attempts: int = session.get_config_variable("max_attempts") or _ATTEMPTS

    def call(
        self,
        principal: Principal,
        service: str,
        action: str,
        params: Mapping[str, Any] | None = None,
        *,
        region: str | None = None,
        idempotent: bool = True,
        attempts: int = 0,
    ) -> dict[str, Any]:
        """Call and return botocore's output; raises AwsError.

        At most `attempts` requests are sent, whatever they come to; 0 leaves it to the usual rules.
        """
        asked = self.service(service, region)
        response = self._call_with_retries(principal, asked, action, params or {}, idempotent, attempts)
        return _parse(self.service(service, region), action, response)

    def query(
        self, principal: Principal, service: str, action: str, params: Mapping[str, Any]
    ) -> ElementTree.Element:
        """Call an XML service and return the bare `…Result`: a seventh of the cost of `call`."""
        response = self._call_with_retries(principal, self.service(service), action, params, idempotent=True)
        try:
            root = ElementTree.fromstring(response.body)  # noqa: S314  # AWS's own answer, parsed as botocore does
        except ElementTree.ParseError as error:
            where = "line {}, column {}".format(*error.position)
            raise MalformedResponseError(f"the answer to {service}:{action} is no XML ({where})") from None
        for element in root.iter():  # the default namespace means nothing here
            element.tag = element.tag.rpartition("}")[2]
        result = root.find(f"{action}Result")
        if result is None:
            raise MalformedResponseError(f"the answer to {service}:{action} has no {action}Result")
        return result

    def service(self, name: str, region: str | None = None) -> ServiceModel:
        """A service's endpoint, made once; raises AwsError."""
        key = (name, region or self.region)
        with self._lock:
            if key not in self._services:
                try:
                    self._services[key] = ServiceModel(self._session, *key)
                except (BotoCoreError, ClientError, ValueError) as error:
                    translated = error_from_botocore(error, name, self._session.profile or "")
                    raise bad_setting(self._session, error) or translated from error
            return self._services[key]

    def max_in_flight(self, account: str) -> int:
        """How many calls are useful in flight for one account, by the action that was asked last."""
        paces = self._rate_limiters.get(account)
        return paces.latest.max_in_flight if paces else RateLimiter().max_in_flight

    def forget(self, account: str) -> None:
        """Drop what is kept for an account that is done with: ten thousand of them add up."""
        with self._lock:
            self._rate_limiters.pop(account, None)

    def _rate_limiter(self, account: str, call: str) -> RateLimiter:
        with self._lock:
            paces = self._rate_limiters.setdefault(account, _AccountRateLimiters())
            if call not in paces.by_call:
                paces.by_call[call] = RateLimiter()
            paces.latest = paces.by_call[call]
            return paces.latest

    def _call_with_retries(
        self,
        principal: Principal,
        service: ServiceModel,
        action: str,
        params: Mapping[str, Any],
        idempotent: bool,
        attempts: int = 0,
    ) -> HttpResponse:
        """Send until an answer is good, an error is final, or the attempts are used up."""
        pace = self._rate_limiter(principal.account, f"{service.name}:{action}")
        failures = throttles = 0
        while True:
            while pause := pace.reserve(self._now()):
                self._wait(pause)
            sent = self._now()
            outcome = self._attempt(principal, service, action, params)
            if isinstance(outcome, HttpResponse):
                pace.granted(self._now(), self._now() - sent)
                return outcome
            if isinstance(outcome.error, ThrottledError):
                throttles += 1
                pace.throttled(self._now(), sent)
                again, pause = throttles < _THROTTLED_ATTEMPTS, _THROTTLED_BACKOFF * 2.0**throttles
            else:
                failures += 1
                again, pause = failures < self._attempts and outcome.may_repeat, 2.0 ** (failures - 1)
            if failures + throttles == attempts or not (again and (idempotent or not outcome.may_have_acted)):
                raise outcome.error
            self._wait(min(_LONGEST_BACKOFF, random.random() * pause))

    def _attempt(
        self, principal: Principal, service: ServiceModel, action: str, params: Mapping[str, Any]
    ) -> "HttpResponse | _FailedAttempt":
        request, used = self._sign(principal, service, service.request(action, params), action)
        if self._on_call:
            self._on_call(principal.account, service.name, action)
        try:
            response = self._send(request)
        except ConnectionLostError as cut:
            call = f"{service.name}:{action}"
            unreached = UnreachableError(f"no answer to {call}: {cut}", action=call)
            return _FailedAttempt(unreached, may_repeat=True, may_have_acted=cut.sent)
        self.server_date = response.headers.get("date", ""), self.clock.now()
        _LOG.debug(
            "%s:%s in account %s: HTTP %s, request %s",
            service.name,
            action,
            principal.account or "?",
            response.status,
            response.headers.get("x-amzn-requestid", "?"),
        )
        if response.status < 300:
            return response
        error = _answer_error(principal, service, action, response, self.clock.now())
        transient = response.status in _TRANSIENT_STATUS or error.code in TRANSIENT
        if isinstance(error, ExpiredCredentialsError) and isinstance(
            principal.credentials, RenewableCredentials
        ):
            # AWS's clock counts: by ours, which may have been set, the session would go on.
            principal.credentials.discard(used)
            ended = SessionEndedError(
                error.message, code=error.code, action=error.action, request_id=error.request_id
            )
            return _FailedAttempt(ended, may_repeat=True, may_have_acted=False)
        if _is_new_role_not_visible(service, error) and isinstance(
            principal.credentials, RenewableCredentials
        ):
            principal.credentials.discard(used)
            return _FailedAttempt(error, may_repeat=True, may_have_acted=False)
        return _FailedAttempt(
            error, may_repeat=transient, may_have_acted=not isinstance(error, ThrottledError)
        )

    def _sign(
        self, principal: Principal, service: ServiceModel, request: UnsignedRequest, action: str
    ) -> tuple[HttpRequest, str]:
        """The signed request, and the access key that signed it."""
        try:
            credentials = principal.credentials.get_frozen_credentials()
        except SparekeyError:
            raise
        except Exception as error:  # botocore asks other services here, and raises more than its own errors
            raise error_from_botocore(error, f"{service.name}:{action}") from error
        Signer(credentials, service.signing_name, service.region).add_auth(request)
        signed = HttpRequest(request.method, request.url, request.headers, request.body)
        return signed, str(credentials.access_key)

    def _now(self) -> float:
        return self.clock.now().timestamp()

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self.clock.sleep(seconds)


class _AccountRateLimiters:
    """The paces of one account; `latest` is that of the action asked last."""

    def __init__(self) -> None:
        self.by_call: dict[str, RateLimiter] = {}
        self.latest = RateLimiter()


class _FailedAttempt(msgspec.Struct, frozen=True):
    """One attempt's failure: may the same be tried again, and may AWS have acted on it?"""

    error: AwsError
    may_repeat: bool
    may_have_acted: bool


def _parse(service: ServiceModel, action: str, response: HttpResponse) -> dict[str, Any]:
    try:
        parsed = service.parse(action, response)
    except Exception as error:  # noqa: BLE001  # whatever an answer does to botocore's parser: it is no answer
        # Not from this error: its text is the whole answer, which may hold the credentials of a session.
        raise MalformedResponseError(
            f"the answer to {service.name}:{action} cannot be understood (HTTP {response.status}, "
            f"{type(error).__name__})",
            action=f"{service.name}:{action}",
        ) from None
    output: dict[str, Any] = _Response.of(parsed, f"{service.name}:{action}")
    return output


class _Response(dict[str, Any]):
    """An answer, or a part of one: what should be in it and is not makes it a bad answer."""

    def __init__(self, parsed: Mapping[str, Any], call: str) -> None:
        super().__init__(parsed)
        self._call = call

    @classmethod
    def of(cls, parsed: Any, call: str) -> Any:
        """The same with every structure in it."""
        if isinstance(parsed, dict):
            return cls({name: cls.of(part, call) for name, part in parsed.items()}, call)
        return [cls.of(part, call) for part in parsed] if isinstance(parsed, list) else parsed

    def __missing__(self, name: str) -> Any:
        raise MalformedResponseError(f"the answer to {self._call} has no {name}", action=self._call)


def _answer_error(
    principal: Principal, service: ServiceModel, action: str, response: HttpResponse, received: datetime
) -> AwsError:
    try:
        parsed = _parse(service, action, response)
    except MalformedResponseError:
        parsed = {}  # such as a gateway's page in HTML: only the status counts
    error = parsed.get("Error", {})
    return error_from_response(
        ErrorResponse(
            service=service.name,
            action=action,
            account=principal.account,
            region=service.region,
            status=response.status,
            code=str(error.get("Code", "")),
            message=str(error.get("Message", "")),
            request_id=str(parsed.get("ResponseMetadata", {}).get("RequestId", "")),
            date=response.headers.get("date", ""),
            received=received,
        )
    )
