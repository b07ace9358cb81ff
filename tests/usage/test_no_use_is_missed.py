"""However the calls of a key are spread over files: each is counted, or the usage is not whole and releases nothing."""

import bz2
import gzip
import json
import lzma
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey import usage
from sparekey.cutover import ConsumersMoved, ConsumersNotMoved, have_consumers_moved
from sparekey.decision import DecisionContext
from sparekey.model import AccessKey, Caller, LastUsed, Usage
from sparekey.policy import Policy
from support.archive_samples import ACCOUNT, NEW, OLD, SESSIONS, file_name, mint, put, put_bytes, record

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LAST = NOW - timedelta(days=20)
REGION = "eu-central-1"


def call(key: str, days: float, agent: str, **changes: Any) -> dict[str, Any]:
    """One call so many days ago."""
    time = (NOW - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return record(key, time, userAgent=f"app/{agent}", eventID=f"{key}{agent}{days}", **changes)


# One application that moved from the old key to the new one, and so would let the old one go.
MOVED = [
    *[call(OLD, 20 + 5 * n, "shop") for n in range(9)],
    *[call(NEW, 19.9 - 5 * n, "shop") for n in range(4)],
]
# Another that did not: with the key itself, and by a session of it.
STAYED = [
    *[call(OLD, days, "ledger") for days in (45, 38, 31, 24)],
    mint(OLD, SESSIONS[0], "2026-01-30T09:00:00Z", userAgent="app/ledger"),
    record(SESSIONS[0], "2026-01-30T10:00:00Z", userAgent="app/ledger", eventID="session"),
]

_ENCODINGS = ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
_PACKERS: list[Callable[[bytes], bytes]] = [
    lambda data: data,
    gzip.compress,
    gzip.compress,
    bz2.compress,
    lzma.compress,
    lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]) + b"\0" * 512,
    lambda data: gzip.compress(bz2.compress(data)),
    lambda data: b"\x28\xb5\x2f\xfd" + data,  # taken for zstd
    lambda data: data[: len(data) // 2],
    lambda data: data + b"\nand more",
]
_NAMES = [
    "c.json",
    "c.json.gz",
    "c.txt",
    "README",
    "deep/er/c.log.1",
    file_name("20260210T1005Z", unique="c"),
    file_name("20260210T1005Z", region="us-east-1", unique="c"),
    f"AWSLogs/{ACCOUNT}/CloudTrail-copy/c.json",
    f"AWSLogs/{ACCOUNT}/Unknown/c.json",
    f"{ACCOUNT}_vpcflowlogs_eu-central-1_fl-1_20260210T1000Z_x.log.gz",
    f"{ACCOUNT}_CloudTrail-Digest_eu-central-1_t_eu-central-1_20260210T100000Z.json.gz",
    ".DS_Store",
    "2026-02-10-10-00-00-0123456789ABCDEF",
]
_BESIDE = [
    ("LICENSE", b"Some license.\n"),
    (f"AWSLogs/{ACCOUNT}/Config/{REGION}/2026/2/1/x.json.gz", b"not opened"),
    (f"{ACCOUNT}_CloudTrail-Digest_x_20260210T100000Z.json.gz", gzip.compress(b'{"awsAccountId": "x"}')),
    ("flow.log", b"version account-id interface-id\n2 111122223333 eni-1\n"),
    ("empty", b""),
]


@st.composite
def texts(draw: st.DrawFn, records: list[dict[str, Any]]) -> str:
    """The records as JSON, in one of the ways that it may be written."""
    written = draw(st.sampled_from(["compact", "plain", "pretty", "lines", "array", "twice", "wrapped"]))
    whole = {"Records": records}
    text = {
        "compact": lambda: json.dumps(whole, separators=(",", ":")),
        "plain": lambda: json.dumps(whole),
        "pretty": lambda: json.dumps(whole, indent=2).replace("\n", "\r\n"),
        "lines": lambda: "\r\n".join(map(json.dumps, records)),
        "array": lambda: json.dumps(records),
        "twice": lambda: json.dumps(whole)[:-1] + ', "Records": []}',
        "wrapped": lambda: json.dumps({"Records": [json.dumps(one) for one in records]}),
    }[written]()
    if draw(st.integers(0, 3)) == 0:
        hidden = draw(
            st.sampled_from(["accessKeyId", "userIdentity", "Records", OLD, SESSIONS[0], "eventSource"])
        )
        at = draw(st.integers(0, len(hidden) - 1))
        text = text.replace(hidden, f"{hidden[:at]}\\u{ord(hidden[at]):04x}{hidden[at + 1 :]}")
    return text


@st.composite
def files(draw: st.DrawFn, records: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    """The records dealt out to files, each with a name, an encoding and a way of packing."""
    hands: list[list[dict[str, Any]]] = [[] for _ in range(draw(st.integers(1, 3)))]
    for one in records:
        hands[draw(st.integers(0, len(hands) - 1))].append(one)
    return [
        (
            f"{number}/{draw(st.sampled_from(_NAMES))}",
            draw(st.sampled_from(_PACKERS))(draw(texts(hand)).encode(draw(st.sampled_from(_ENCODINGS)))),
        )
        for number, hand in enumerate(hands)
        if hand
    ]


def read(root: Path) -> tuple[Usage, Usage]:
    request = usage.UsageRequest(processes=1, since=NOW - timedelta(days=80))
    new, old = usage.read_usage(f"archive={root}", [OLD, NEW], request)
    return old, new


def verdict(old: Usage, new: Usage) -> ConsumersMoved | ConsumersNotMoved:
    used = LastUsed("used", LAST, "dynamodb", REGION)
    before, kept = (AccessKey(key, "Active", NOW - timedelta(days=99), used) for key in (OLD, NEW))
    context = DecisionContext(Policy(), NOW, Caller("111122223333", ""), usages={OLD: old, NEW: new})
    return have_consumers_moved(before, kept, context)


def lay_out(root: Path, spread: list[tuple[str, bytes]], linked: bool) -> None:
    """The application that moved, in files as CloudTrail writes them, and the others beside them, or behind a link."""
    put(
        root / "trail", file_name("20251212T0000Z"), record(NEW, "2025-12-11T23:00:00Z", userAgent="app/shop")
    )
    put(root / "trail", file_name("20260228T2355Z"), *MOVED)
    for name, data in spread:
        put_bytes(root / "elsewhere" if linked else root / "trail", name, data)
    if linked:
        (root / "elsewhere").mkdir(exist_ok=True)
        (root / "trail/more").symlink_to("../elsewhere")


def test_without_the_others_the_key_is_free() -> None:
    """What follows would show nothing, were the key held anyway; what AWS puts beside logs does not hold it."""
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), _BESIDE, linked=False)
        old, new = read(Path(folder) / "trail")
    assert (old.calls, old.unread, old.partial) == (9, (), ())
    assert isinstance(verdict(old, new), ConsumersMoved)


@settings(max_examples=80, deadline=None)
@given(files(STAYED), st.sampled_from([[], _BESIDE]), st.booleans())
def test_every_call_is_counted_or_the_usage_is_not_whole(
    spread: list[tuple[str, bytes]], beside: list[tuple[str, bytes]], linked: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), [*spread, *beside], linked)
        old, new = read(Path(folder) / "trail")
    counted = {one.agent: one.calls for one in old.consumers}
    whole = counted.get("app/ledger", 0) == len(STAYED)
    assert whole or old.unread or old.partial
    assert isinstance(verdict(old, new), ConsumersNotMoved)
    usage.document([old, new])
