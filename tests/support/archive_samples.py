"""Archives for tests: records as CloudTrail writes them, and files of every shape that a reader may meet."""

import gzip
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

ACCOUNT = "111122223333"
OLD, NEW, FOREIGN = "AKIAOLDAAAAAAAAAAAAA", "AKIANEWBBBBBBBBBBBBB", "AKIAOTHERCCCCCCCCCCC"
SESSIONS = [f"ASIASESSION{number:09d}" for number in range(6)]
BOTO = "Boto3/1.34.51 md/Botocore#1.34.51 lang/python#3.12.2"


def record(key: str | None = OLD, time: str = "2026-01-10T10:00:00Z", **changes: Any) -> dict[str, Any]:
    """One call."""
    values: dict[str, Any] = {
        "eventVersion": "1.09",
        "userIdentity": {"type": "IAMUser", "accountId": ACCOUNT, "accessKeyId": key},
        "eventTime": time,
        "eventSource": "dynamodb.amazonaws.com",
        "eventName": "GetItem",
        "awsRegion": "eu-central-1",
        "sourceIPAddress": "198.51.100.7",
        "userAgent": BOTO,
        "requestParameters": {"tableName": "orders"},
        "responseElements": None,
        "eventID": f"{key}-{time}",
    }
    return values | changes


def mint(by: str, session: str, time: str = "2026-01-10T09:00:00Z", **changes: Any) -> dict[str, Any]:
    """A call that makes a session."""
    values: dict[str, Any] = {
        "eventSource": "sts.amazonaws.com",
        "eventName": "AssumeRole",
        "responseElements": {
            "credentials": {"accessKeyId": session, "expiration": "Jan 10, 2026, 10:00:00 PM"}
        },
        "eventID": f"mint-{by}-{session}",
    }
    return record(by, time, **(values | changes))


def file_name(
    time: str = "20260110T1005Z", *, unique: str = "x", region: str = "eu-central-1", org: str = ""
) -> str:
    """Where CloudTrail would put a file."""
    day = f"{time[:4]}/{time[4:6]}/{time[6:8]}"
    folder = f"AWSLogs/{org}{ACCOUNT}/CloudTrail/{region}/{day}"
    return f"{folder}/{ACCOUNT}_CloudTrail_{region}_{time}_{unique}.json.gz"


def put(root: Path, name: str, *records: Any) -> Path:
    """Write a log file."""
    return put_bytes(root, name, gzip.compress(json.dumps({"Records": records}).encode(), mtime=0))


def put_bytes(root: Path, name: str, data: bytes) -> Path:
    """Write any file."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# What hypothesis makes -------------------------------------------------------------------------------------

_IDS = [OLD, NEW, FOREIGN, *SESSIONS]
_texts = st.text(max_size=20) | st.sampled_from(
    [*_IDS, "\\u0041KIA", '"accessKeyId":"', "é\u2028\U0001f511", "\\", "{"]
)
_numbers = (
    st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.sampled_from([10**400, 1e308])
)
_nested = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_odd = _nested  # in the place of a text
_agents = (
    st.sampled_from([BOTO, "aws-cli/2.9.1 Python/3.9.11", "", f"job {OLD}", "[Boto3/1.26.1]", "\ud800 lone"])
    | _texts
)
_days = st.integers(0, 40).map(lambda hours: f"2026-01-{10 + hours // 24:02d}T{hours % 24:02d}:15:00Z")
_answers = st.none() | _nested | st.fixed_dictionaries({"credentials": _nested})


@st.composite
def _uses(draw: st.DrawFn) -> dict[str, Any]:
    made = record(draw(st.sampled_from([*_IDS, None])), draw(_days), eventID=draw(st.uuids()).hex)
    made["userAgent"] = draw(_agents)
    made["sourceIPAddress"] = draw(st.sampled_from(["198.51.100.7", "athena.amazonaws.com", None]))
    made["requestParameters"] = draw(_nested)
    made["responseElements"] = draw(_answers)
    if draw(st.booleans()):
        made["errorCode"] = draw(st.sampled_from(["AccessDenied", "", None]))
    names = sorted(set(made) - {"eventTime", "eventID", "userIdentity"})
    for name in draw(st.lists(st.sampled_from(names), max_size=2)):
        made[name] = draw(_odd)
    for name in draw(st.lists(st.sampled_from(names), max_size=2)):
        made.pop(name, None)
    return made


@st.composite
def record_lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records in no order; some twice, and each session minted by one key or session before it."""
    records = draw(st.lists(_uses(), max_size=12))
    makers = [OLD, NEW, FOREIGN]
    for session in draw(st.lists(st.sampled_from(SESSIONS), unique=True, max_size=len(SESSIONS))):
        records.append(mint(draw(st.sampled_from(makers)), session, draw(_days)))
        makers.append(session)
    records += draw(st.lists(st.sampled_from(records), max_size=3)) if records else []
    return draw(st.permutations(records))


@st.composite
def log_files(draw: st.DrawFn, records: list[Any]) -> bytes:
    """One file with these records, in one of the ways that they may be written."""
    spaced = draw(st.booleans())
    options: dict[str, Any] = {
        "ensure_ascii": draw(st.booleans()),
        "indent": draw(st.sampled_from([None, None, 1, "\t"])),
        "separators": (" , ", " : ") if spaced else (",", ":"),
    }
    lines = draw(st.integers(0, 9)) == 0
    if lines and records and all(isinstance(one.get("eventSource"), str) for one in records):
        written = "\r\n".join(json.dumps(one, ensure_ascii=True) for one in records) + "\n"
    else:
        before, after = draw(
            st.sampled_from([({}, {}), ({"v": _IDS}, {}), ({}, {"next": {"Records": [OLD]}})])
        )
        written = json.dumps(before | {"Records": records} | after, **options)
    if draw(st.integers(0, 4)) == 0:
        written = _escape(written, draw(st.sampled_from([OLD, *SESSIONS])))
    data = written.encode("utf-8", "replace")
    if draw(st.booleans()):
        return data
    cut = draw(st.integers(0, len(data)))
    members = [data[:cut], data[cut:]] if draw(st.booleans()) else [data]
    padding = draw(st.sampled_from([b"", b"", b"\0" * 512]))
    return b"".join(gzip.compress(member, mtime=0) for member in members) + padding


def _escape(written: str, key: str) -> str:
    """The same JSON with one letter of a key written as an escape."""
    return written.replace(key, f"{key[:2]}\\u{ord(key[2]):04x}{key[3:]}")
