"""The slow plain reader: what an archive shows of keys, with `gzip`, `json.loads` and no shortcuts.

It shares the naming of user agents with the code that it judges, and nothing else.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from sparekey.model import Consumer, ServiceUse
from sparekey.usage.agents import agent_family, printable

Seen = dict[str, Any]


def read_records(folder: Path) -> Iterator[Any]:
    """Every record of every log file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in {".gz", ".json", ".jsonl"}:
            data = path.read_bytes()
            yield from parse(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)


def parse(text: bytes) -> list[Any]:
    """The records of one file: a log file, or a record (or a log file) on each line."""
    try:
        documents = [json.loads(text)]
    except ValueError:
        documents = [json.loads(line) for line in text.splitlines() if line.strip()]
    records: list[Any] = []
    for document in documents:
        records += document.get("Records", [document])
    return records


def text(value: Any, otherwise: str = "") -> str:
    return value if isinstance(value, str) else otherwise


def principal(record: Any) -> str | None:
    identity = record.get("userIdentity") if isinstance(record, dict) else None
    key = identity.get("accessKeyId") if isinstance(identity, dict) else None
    return key if isinstance(key, str) and key else None


def minted(record: dict[str, Any]) -> str | None:
    """The session a call minted: temporary keys begin with ASIA and have 20 characters or more."""
    answer = record.get("responseElements")
    credentials = answer.get("credentials") if isinstance(answer, dict) else None
    session = credentials.get("accessKeyId") if isinstance(credentials, dict) else None
    if text(record.get("errorCode")) or not isinstance(session, str):
        return None
    return session if session.startswith("ASIA") and len(session) >= 20 and session.isalnum() else None


def owners(records: list[dict[str, Any]], keys: Collection[str]) -> dict[str, str]:
    """Every key and session whose use counts, with the key at the head of its chain."""
    found = {key: key for key in keys}
    growing = True
    while growing:
        growing = False
        for record in records:
            who, session = principal(record), minted(record)
            if who in found and session and session not in found:
                found[session] = found[who]
                growing = True
    return found


def short(value: Any) -> str:
    return printable(text(value)[:200]) or "unknown"


def usages(records: list[Any], keys: Collection[str]) -> dict[str, Seen]:
    """What `Usage` holds of each key, by its field names."""
    signed = [record for record in records if principal(record)]
    owner = owners(signed, keys)
    distinct: dict[str, dict[str, Any]] = {}
    for record in signed:
        if principal(record) in owner:
            named = {name: value for name, value in record.items() if isinstance(value, str)}
            distinct.setdefault(text(record.get("eventID")) or repr((principal(record), named)), record)
    groups: dict[str, dict[tuple[str, str], dict[tuple[str, str], list[Any]]]] = {
        key: defaultdict(lambda: defaultdict(list)) for key in keys
    }
    for record in distinct.values():
        service = short(record.get("eventSource")).removesuffix(".cn").removesuffix(".amazonaws.com")
        who = agent_family(text(record.get("userAgent"))), short(record.get("sourceIPAddress"))
        key = owner[principal(record) or ""]
        groups[key][who][service, short(record.get("awsRegion"))].append(record)
    return {key: _usage(key, groups[key], owner) for key in keys}


def _usage(key: str, groups: dict[Any, Any], owner: dict[str, str]) -> Seen:
    consumers = tuple(
        Consumer(
            agent,
            source,
            tuple(
                _service(key, service, region, records) for (service, region), records in sorted(uses.items())
            ),
        )
        for (agent, source), uses in sorted(groups.items())
    )
    return {
        "key": key,
        "calls": sum(consumer.calls for consumer in consumers),
        "errors": sum(use.errors for consumer in consumers for use in consumer.uses),
        "sessions": sum(1 for session, behind in owner.items() if behind == key and session != key),
        "consumers": consumers,
        "first_seen": min((consumer.first_seen for consumer in consumers), default=None),
        "last_seen": max((consumer.last_seen for consumer in consumers), default=None),
    }


def _service(key: str, service: str, region: str, records: list[dict[str, Any]]) -> ServiceUse:
    times = [when(record) for record in records]
    own = [when(record) for record in records if principal(record) == key]
    hours = sorted({time.replace(minute=0, second=0, microsecond=0) for time in times})
    daily: dict[Any, int] = defaultdict(int)
    for time in times:
        daily[time.date()] += 1
    return ServiceUse(
        service=service,
        region=region,
        actions=tuple(sorted({short(record.get("eventName")) for record in records})),
        calls=len(records),
        errors=sum(1 for record in records if text(record.get("errorCode"))),
        first_seen=min(times),
        last_seen=max(times),
        longest_gap=max((after - before for before, after in pairwise(hours)), default=timedelta(0)),
        own_last=max(own, default=None),
        daily=tuple(sorted(daily.items())),
    )


def when(record: dict[str, Any]) -> datetime:
    time = datetime.fromisoformat(record["eventTime"])
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
