"""One CloudTrail record: the few fields that show a use of a key, read fast where it is well-formed.

Only `userIdentity.accessKeyId` is a use: a key that is named elsewhere in a record (created, listed, updated)
did not sign that call. Fields: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
"""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from sparekey.usage.agents import UNKNOWN, agent_family, printable

# Temporary keys begin with it: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
_SESSION = re.compile(r"ASIA\w{16,124}", re.ASCII)
_SHORT = 200
_LONGEST = 1024  # CloudTrail itself cuts a user agent at 1 KB
_USUAL = 1 << 13  # bytes of a record; only a longer one may hold many long texts
# No call to AWS is older; what is beyond is no time of a call either.
_FIRST, _END = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2006, 2200))
_DIGEST = 16


class RecordIdentity(msgspec.Struct, gc=False):
    """Who signed the call; also the credentials that a call answered with."""

    accessKeyId: str | None = None  # noqa: N815 - CloudTrail's own name


class RecordResponse(msgspec.Struct, gc=False):
    """The answer of a call that minted a session."""

    credentials: RecordIdentity | None = None


class TrailRecord(msgspec.Struct, gc=False):
    """What is read of one record, under CloudTrail's own names."""

    eventID: str | None = None  # noqa: N815
    eventTime: str | None = None  # noqa: N815
    eventSource: str | None = None  # noqa: N815
    eventName: str | None = None  # noqa: N815
    awsRegion: str | None = None  # noqa: N815
    sourceIPAddress: str | None = None  # noqa: N815
    userAgent: str | None = None  # noqa: N815
    errorCode: str | None = None  # noqa: N815
    userIdentity: RecordIdentity | None = None  # noqa: N815
    responseElements: RecordResponse | None = None  # noqa: N815


class CallOrigin(NamedTuple):
    """What is counted together: an application, and the service and region it called."""

    agent: str
    source: str
    service: str
    region: str


class UseEvent(msgspec.Struct, gc=False):
    """One use of a key: who signed, when (epoch seconds), by what and from where.

    `at` is None where the record has no readable time. `digest` stands for the `eventID`; `minted` is the
    session's key id where the call made one.
    """

    principal: str
    digest: bytes
    at: int | None
    where: CallOrigin
    action: str
    failed: bool
    minted: str | None


_record = msgspec.json.Decoder(TrailRecord)


def decode(raw: bytes | msgspec.Raw) -> TrailRecord | None:
    """Read one record; None where it is not an object. Raises ValueError or RecursionError.

    What the strict decoder refuses (a number for a name, a lone surrogate, NaN) is read once more, leniently, and
    so is a record in which the name of a signer may stand twice: the decoder would take one of them.
    """
    text = bytes(raw)
    try:
        record = _record.decode(text)
    except msgspec.MsgspecError:
        return lenient_record(json.loads(text, object_pairs_hook=unique_object))
    if text.count(_KEY) > 1 or text.count(_IDENTITY) > 1:
        json.loads(text, object_pairs_hook=unique_object)
    return _cut_record(record) if len(text) > _USUAL else record


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON (a hook of the standard library); raises ValueError where a name read here stands twice."""
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        if twice := sorted(name for name in _NAMES.intersection(names) if names.count(name) > 1):
            raise ValueError(f"{twice[0]} is written twice")
    return value


def lenient_record(value: Any) -> TrailRecord | None:
    """Take what can be taken of a record read by the standard library."""
    if not isinstance(value, dict):
        return None
    texts = {name: value.get(name) for name in _TEXTS}
    answer = value.get("responseElements")
    return _cut_record(
        TrailRecord(
            **{name: text for name, text in texts.items() if isinstance(text, str)},
            userIdentity=_identity(value.get("userIdentity")),
            responseElements=RecordResponse(_identity(answer.get("credentials")))
            if isinstance(answer, dict)
            else None,
        )
    )


def _identity(value: Any) -> RecordIdentity | None:
    key = value.get("accessKeyId") if isinstance(value, dict) else None
    return RecordIdentity(key) if isinstance(key, str) else None


_TEXTS = tuple(
    name for name in TrailRecord.__struct_fields__ if name not in {"userIdentity", "responseElements"}
)
_NAMES = frozenset({*TrailRecord.__struct_fields__, "accessKeyId", "credentials", "Records"})
_KEY, _IDENTITY = b'"accessKeyId"', b'"userIdentity"'


def use_event(record: TrailRecord) -> UseEvent | None:
    """The use that a record shows, or None where no access key signed it."""
    principal = record.userIdentity.accessKeyId if record.userIdentity else None
    if not principal:
        return None
    return UseEvent(
        principal,
        _digest(record, principal),
        _seconds(record.eventTime or ""),
        call_origin(record.userAgent, record.sourceIPAddress, record.eventSource, record.awsRegion),
        _short(record.eventName),
        bool(record.errorCode),
        None if record.errorCode else _minted_session(record.responseElements),
    )


def use_events(records: Iterable[TrailRecord | None]) -> Iterator[UseEvent]:
    """The uses among many records."""
    for record in records:
        if record is not None and (use := use_event(record)) is not None:
            yield use


def _digest(record: TrailRecord, principal: str) -> bytes:
    """Sixteen bytes for the `eventID`; records without one are the same where all they say is."""
    if event_id := record.eventID:
        try:
            id_bytes = bytes.fromhex(
                event_id.replace("-", "")
            )  # what a UUID does, for half the cost of a hash
        except ValueError:
            return digest(event_id)
        return id_bytes if len(id_bytes) == _DIGEST else digest(event_id)
    return digest(repr((principal, *(getattr(record, name) for name in _TEXTS))))


def digest(text: str) -> bytes:
    """Sixteen bytes that stand for a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


def _seconds(text: str) -> int | None:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    at = int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    return at if _FIRST <= at < _END else None


def _cut_record(record: TrailRecord) -> TrailRecord:
    """The record with no text longer than what counts: what is kept of it for later ones is bounded by that."""
    for name in _TEXTS:
        text = getattr(record, name)
        if text is not None and len(text) > _LONGEST and name != "eventID":
            setattr(record, name, text[:_LONGEST])
    return record


def _minted_session(answer: RecordResponse | None) -> str | None:
    session = answer.credentials.accessKeyId if answer and answer.credentials else None
    return session if session and _SESSION.fullmatch(session) else None


@lru_cache(maxsize=1 << 14)
def call_origin(agent: str | None, source: str | None, service: str | None, region: str | None) -> CallOrigin:
    """What a record's agent, source address, service and region are counted under."""
    host = _short(service).removesuffix(".cn").removesuffix(".amazonaws.com")
    return CallOrigin(agent_family(agent or ""), _short(source), host, _short(region))


@lru_cache(maxsize=1 << 14)
def _short(text: str | None) -> str:
    return printable(text[:_SHORT]) if text else UNKNOWN
