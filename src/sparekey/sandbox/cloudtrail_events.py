"""Every call as CloudTrail would record it: the event history, and the files of an archive."""

import bisect
import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from sparekey.sandbox.identity import CallerPrincipal

# Data events: an archive may hold them, the event history never shows them.
# https://docs.aws.amazon.com/awscloudtrail/latest/userguide/logging-data-events-with-cloudtrail.html
DATA_ACTIONS = frozenset(
    {
        "cloudwatch:GetMetricData",
        "cloudwatch:PutMetricData",
        "dynamodb:BatchGetItem",
        "dynamodb:BatchWriteItem",
        "dynamodb:DeleteItem",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "dynamodb:Scan",
        "dynamodb:UpdateItem",
        "kinesis:GetRecords",
        "kinesis:PutRecord",
        "kinesis:PutRecords",
        "lambda:Invoke",
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:HeadObject",
        "s3:ListObjects",
        "s3:PutObject",
        "ses:SendEmail",
        "ses:SendRawEmail",
        "sns:Publish",
        "sqs:DeleteMessage",
        "sqs:ReceiveMessage",
        "sqs:SendMessage",
    }
)
_SOURCES = {"cloudwatch": "monitoring"}
_ERRORS = {
    "NoSuchEntity": "NoSuchEntityException",
    "LimitExceeded": "LimitExceededException",
    "ValidationError": "ValidationException",
    "EntityAlreadyExists": "EntityAlreadyExistsException",
    "DeleteConflict": "DeleteConflictException",
}
_READS = ("Get", "List", "Describe", "Head", "Lookup", "Simulate", "Query", "Scan", "Receive", "BatchGet")


class TrailEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One call; `foreign` is the copy that the account of an assumed role sees of a caller from outside."""

    at: datetime
    account: str
    region: str
    service: str
    name: str
    caller: CallerPrincipal
    agent: str
    source: str
    id: str
    request_id: str
    request: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    error: str = ""
    message: str = ""
    resources: tuple[tuple[str, str], ...] = ()
    shared: str = ""
    foreign: bool = False

    @property
    def data(self) -> bool:
        """Whether this is a data event, which the event history does not show."""
        return f"{self.service}:{self.name}" in DATA_ACTIONS

    @property
    def read_only(self) -> bool:
        """What CloudTrail calls read-only; minting a session is."""
        return self.service == "sts" or self.name.startswith(_READS)

    @property
    def event_source(self) -> str:
        """Such as iam.amazonaws.com."""
        return f"{_SOURCES.get(self.service, self.service)}.amazonaws.com"

    @property
    def access_key(self) -> str:
        """The key the call was signed with; a caller from outside is shown without."""
        return "" if self.foreign else self.caller.key

    def record(self) -> dict[str, Any]:
        """The JSON record of a log file."""
        record: dict[str, Any] = {
            "eventVersion": "1.08",
            "userIdentity": _foreign_identity(self.caller) if self.foreign else _identity(self.caller),
            "eventTime": f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "eventSource": self.event_source,
            "eventName": self.name,
            "awsRegion": self.region,
            "sourceIPAddress": self.source,
            "userAgent": self.agent,
        }
        if self.error:
            record |= {"errorCode": _ERRORS.get(self.error, self.error), "errorMessage": self.message}
        record |= {
            "requestParameters": self.request,
            "responseElements": self.response,
            "requestID": self.request_id,
            "eventID": self.id,
            "readOnly": self.read_only,
        }
        arns = [(kind, name) for kind, name in self.resources if name.startswith("arn:")]
        if arns:
            record["resources"] = [
                {"accountId": self.account, "type": kind, "ARN": arn} for kind, arn in arns
            ]
        record |= {
            "eventType": "AwsApiCall",
            "managementEvent": not self.data,
            "recipientAccountId": self.account,
            "eventCategory": "Data" if self.data else "Management",
            "tlsDetails": {
                "tlsVersion": "TLSv1.3",
                "cipherSuite": "TLS_AES_128_GCM_SHA256",
                "clientProvidedHostHeader": self.event_source,
            },
        }
        if self.shared:
            record["sharedEventID"] = self.shared
        return record


class EventLog:
    """All events, by account and region, in the order of their time."""

    def __init__(self) -> None:
        self._events: dict[tuple[str, str], list[TrailEvent]] = defaultdict(list)

    def add(self, event: TrailEvent) -> None:
        """Take in an event, late ones too."""
        bisect.insort(self._events[event.account, event.region], event, key=lambda entry: entry.at)

    def extend(self, events: Iterable[TrailEvent]) -> None:
        """Take in many events at once."""
        for event in events:
            self._events[event.account, event.region].append(event)
        for recorded in self._events.values():
            recorded.sort(key=lambda entry: entry.at)

    def events(self, account: str, region: str) -> list[TrailEvent]:
        """The events of one account and region, oldest first."""
        return self._events.get((account, region), [])

    def __iter__(self) -> Iterator[TrailEvent]:
        for place in sorted(self._events):
            yield from self._events[place]

    def export(
        self,
        folder: Path,
        *,
        organization: str = "",
        prefix: str = "",
        every: timedelta = timedelta(hours=1),
        lag: timedelta = timedelta(minutes=5),
    ) -> list[Path]:
        """Write log files as CloudTrail lays them out; `every` is the time that one file spans.

        A file's name and day are those of its delivery, `lag` after the time it spans.
        """
        batches: dict[tuple[str, str, datetime], list[TrailEvent]] = defaultdict(list)
        for event in self:
            since = EPOCH + (event.at - EPOCH) // every * every
            batches[event.account, event.region, since + every + lag].append(event)
        written = []
        for (account, region, delivered), events in sorted(batches.items(), key=lambda batch: batch[0]):
            parts = [prefix, "AWSLogs", organization, account, "CloudTrail", region, f"{delivered:%Y/%m/%d}"]
            place = folder.joinpath(*filter(None, parts))
            place.mkdir(parents=True, exist_ok=True)
            unique = hashlib.sha256(events[0].id.encode()).hexdigest()[:16]
            path = place / f"{account}_CloudTrail_{region}_{delivered:%Y%m%dT%H%MZ}_{unique}.json.gz"
            content = json.dumps({"Records": [event.record() for event in events]}, separators=(",", ":"))
            path.write_bytes(gzip.compress(content.encode(), mtime=0))
            written.append(path)
        return written


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def console_time(when: datetime) -> str:
    """A time as CloudTrail writes it inside response elements: "Jul 10, 2023, 12:09:47 PM"."""
    hour = when.hour % 12 or 12
    return f"{when:%b} {when.day}, {when.year}, {hour}:{when:%M:%S %p}"


def _identity(caller: CallerPrincipal) -> dict[str, Any]:
    identity: dict[str, Any] = {
        "type": caller.kind,
        "principalId": caller.principal_id,
        "arn": caller.arn,
        "accountId": caller.account,
        "accessKeyId": caller.key,
    }
    if caller.kind == "IAMUser":
        identity["userName"] = caller.user
    session = caller.session
    if session is None:
        return identity
    attributes = {
        "creationDate": f"{session.created.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "mfaAuthenticated": "true" if session.mfa else "false",
    }
    context: dict[str, Any] = {"sessionIssuer": {}, "webIdFederationData": {}, "attributes": attributes}
    if session.issuer is not None:
        context["sessionIssuer"] = {
            "type": session.issuer.kind,
            "principalId": session.issuer.principal_id,
            "arn": session.issuer.arn,
            "accountId": session.account,
            "userName": session.issuer.name,
        }
    if session.by == "AssumeRoot":
        context["assumedRoot"] = "true"
    return identity | {"sessionContext": context}


def _foreign_identity(caller: CallerPrincipal) -> dict[str, Any]:
    return {"type": "AWSAccount", "principalId": caller.principal_id, "accountId": caller.account}
