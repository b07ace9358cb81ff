"""Signs requests by botocore, without what botocore does for each call beside it."""

from typing import Any

from botocore.auth import SigV4Auth
from botocore.exceptions import NoRegionError


class _BotocoreRequestError(Exception):
    """Takes out of botocore what it was about to sign."""

    def __init__(self, url: str, signing_name: str, region: str, agent: str) -> None:
        super().__init__(url)
        self.url, self.signing_name, self.region, self.agent = url, signing_name, region, agent


# A call of each service that needs no parameters.
DIRECT_CALLS = {
    "athena": "list_work_groups",
    "cloudtrail": "lookup_events",
    "cloudwatch": "describe_alarms",
    "ec2": "describe_regions",
    "iam": "list_users",
    "organizations": "describe_organization",
    "secretsmanager": "list_secrets",
    "securityhub": "describe_hub",
    "sns": "list_topics",
    "ssm": "describe_parameters",
    "sts": "get_caller_identity",
}


def botocore_request(client: Any, name: str) -> _BotocoreRequestError:
    """Where botocore sends and for which region it signs: it is let prepare one call that never leaves."""

    def stop(request: Any, signing_name: str, region_name: str | None, **_: Any) -> None:
        context = request.context.get("signing", {})
        signing_region = context.get("region") or region_name
        if not signing_region:
            raise NoRegionError()
        name = context.get("signing_name") or signing_name
        raise _BotocoreRequestError(request.url, name, signing_region, request.headers["User-Agent"])

    client.meta.events.register("before-sign", stop)
    try:
        getattr(client, DIRECT_CALLS[name])()
    except _BotocoreRequestError as asked:
        return asked
    raise AssertionError("botocore sent a call without signing it")


class _SignedHeaders(dict[str, str]):
    """The headers that are signed, each of them once."""

    def get_all(self, name: str) -> tuple[str]:
        """As botocore's signer asks for them."""
        return (self[name],)


class Signer(SigV4Auth):  # type: ignore[misc]  # botocore ships no types
    """botocore's signer; its own way to collect the headers costs as much as all the rest."""

    def headers_to_sign(self, request: "UnsignedRequest") -> _SignedHeaders:
        """Every header but those that somebody on the way may change."""
        return _SignedHeaders(
            {name.lower(): value for name, value in request.headers.items() if name in _SIGNED_HEADERS}
        )


_SIGNED_HEADERS = frozenset({"Content-Type", "Host", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Target"})


class UnsignedRequest:
    """What botocore's signer reads and writes of a request; its own AWSRequest costs twice as much."""

    method = "POST"
    params: None = None

    def __init__(self, url: str, headers: dict[str, str], body: bytes) -> None:
        self.url = url
        self.headers = headers
        self.body = body
        self.context: dict[str, Any] = {}
