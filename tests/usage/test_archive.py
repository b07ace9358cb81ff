"""What an archive is made of: the layout, time, sessions across files, and what can't be read."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sparekey import usage
from sparekey.errors import BadInputError, UnreadError
from sparekey.model import Usage
from sparekey.usage.archive.storage import open_storage
from sparekey.usage.request import ReadProgress, UsageRequest
from sparekey.usage.sources import archive
from support.archive_samples import (
    ACCOUNT,
    FOREIGN,
    NEW,
    OLD,
    SESSIONS,
    file_name,
    mint,
    put,
    put_bytes,
    record,
)


def read(root: Path, *keys: str, **options: Any) -> Usage:
    (found, *_) = usage.read_usage(f"archive={root}", keys or [OLD], UsageRequest(processes=1, **options))
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        file_name(),
        file_name(org="o-abc123/"),
        "prefix/of/ours/" + file_name(),
        "flat.json.gz",
        f"AWSLogs/{ACCOUNT}/CloudTrail/eu-central-1/2026/01/stray.json.gz",
        f"AWSLogs/{ACCOUNT}/CloudTrail/eu-central-1/2026/13/45/odd.json.gz",
        f"AWSLogs/{ACCOUNT}/CloudTrail/eu-central-1/2026/01/10/11/deeper.json.gz",
        f"{ACCOUNT}_CloudTrail_eu-central-1_20260110T1005Z_x.json.gz",
    ],
)
def test_a_file_is_found_wherever_it_lies(root: Path, name: str) -> None:
    put(root, name, record())
    assert read(root).calls == 1


@pytest.mark.parametrize("levels", range(1, 9))
def test_any_folder_of_the_layout_can_be_named(root: Path, levels: int) -> None:
    path = put(root, file_name(), record())
    assert read(path.parents[levels - 1]).calls == 1
    assert read(path).calls == 1


@pytest.mark.parametrize("levels", range(4))
def test_a_part_of_an_archive_is_no_proof(root: Path, levels: int) -> None:
    """Below one region's folder, other regions' calls are not seen."""
    path = put(root, file_name(), record())
    (why,) = read(path.parents[levels]).partial
    assert why.startswith("only region eu-central-1 was read")
    assert read(path).partial == (f"only the file {path.name} was read",)
    assert read(path.parents[4]).partial == ()
    assert read(root).partial == ()


@pytest.mark.parametrize(
    "name",
    [
        f"AWSLogs/{ACCOUNT}/CloudTrail-Digest/eu-central-1/2026/01/10/x.json.gz",
        f"AWSLogs/o-abc123/{ACCOUNT}/Config/eu-central-1/2026/1/10/x.json.gz",
        "LICENSE",
        "README.md",
    ],
)
def test_what_lies_beside_a_trail_is_no_fault(root: Path, name: str) -> None:
    put(root, file_name(), record())
    put_bytes(root, name, b"not a trail")
    assert (read(root).calls, read(root).unread) == (1, ())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gzip.compress(b'{"Records":[]}', mtime=0)[:-3], "cut short"),
        (gzip.compress(b'{"Records":[]}', mtime=0)[:20], "cut short"),
        (gzip.compress(b'{"Records":[]}', mtime=0) + b"trailing", "gzip"),
        (gzip.compress(b'{"Records":[]}', mtime=0)[:-8] + b"\0" * 8, "gzip"),
        (b'{"Records":[{"eventID":"AKIAOLDAAAAAAAAAAAAA"', "not JSON"),
        (b'{"awsAccountId":"AKIAOLDAAAAAAAAAAAAA","digestStartTime":"x"}', "no CloudTrail records"),
        (b'{"Records":"AKIAOLDAAAAAAAAAAAAA"}', "no CloudTrail records"),
        (b'["AKIAOLDAAAAAAAAAAAAA"]', "no CloudTrail records"),
        (b"AKIAOLDAAAAAAAAAAAAA \xff\xfe", "not JSON"),
        (b'{"Records":[{"a":' + b"[" * 100_000 + b'"AKIAOLDAAAAAAAAAAAAA"', "not JSON"),
    ],
)
def test_a_file_that_is_cut_or_foreign_is_named_and_the_rest_is_read(
    root: Path, content: bytes, why: str
) -> None:
    put(root, file_name(unique="good"), record())
    bad = file_name(unique="bad")
    put_bytes(root, bad, content)
    found = read(root)
    assert found.calls == 1
    assert [entry.what for entry in found.unread] == [bad]
    assert why in found.unread[0].why


def test_a_foreign_file_without_the_key_is_named_too(root: Path) -> None:
    put_bytes(root, "notes.json", b'{"hello": "world"}')
    assert [entry.what for entry in read(root).unread] == ["notes.json"]


def test_a_record_without_a_time_is_named_and_the_rest_is_read(root: Path) -> None:
    put(root, file_name(), record(eventTime="yesterday", eventName="PutItem"), record())
    found = read(root)
    assert found.calls == 1
    assert "PutItem" in found.unread[0].why


def test_a_folder_that_may_not_be_listed_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, file_name(), record())
    put(root, file_name(region="us-east-1"), record())
    listing = open_storage(str(root)).children

    def refuse(folder: str) -> Any:
        if "us-east-1" in folder:
            raise PermissionError(13, "Permission denied")
        return listing(folder)

    monkeypatch.setattr(
        "sparekey.usage.archive.storage.LocalStorage.children", lambda _, folder: refuse(folder)
    )
    found = read(root)
    assert found.calls == 1
    assert [(entry.what, entry.why) for entry in found.unread] == [
        (f"AWSLogs/{ACCOUNT}/CloudTrail/us-east-1", "Permission denied")
    ]


def test_a_file_that_is_gone_is_named(root: Path) -> None:
    put(root, file_name(), record())
    (root / "gone.json").symlink_to(root / "nowhere.json")
    (root / "shut.json").mkdir()
    assert [(entry.what, entry.why) for entry in read(root).unread] == [("gone.json", "a link to nothing")]
    task = archive._ScanTask(open_storage(str(root)), ("nowhere.json",), {}, None, None)
    assert archive.scan_chunk(task).part.unread[0].what == "nowhere.json"


def test_an_archive_without_a_file_is_refused(root: Path) -> None:
    with pytest.raises(UnreadError, match="nothing under"):
        read(root)
    with pytest.raises(BadInputError, match="no archive at"):
        read(root / "missing")


@pytest.mark.parametrize("source", ["archives=x", "", "=x"])
def test_an_unknown_source_is_refused(source: str) -> None:
    with pytest.raises(BadInputError, match="no usage source"):
        usage.read_usage(source, [OLD])


def test_a_text_that_is_no_key_is_refused(root: Path) -> None:
    with pytest.raises(BadInputError, match="no access key id"):
        read(root, "x")


def test_an_event_delivered_twice_counts_once(root: Path) -> None:
    put(root, file_name(unique="a"), record(), record())
    put(root, file_name("20260111T0000Z", unique="b"), record(), record(time="2026-01-10T11:00:00Z"))
    assert read(root).calls == 2


@pytest.mark.parametrize(
    ("bounds", "calls"),
    [
        ({}, 3),
        ({"since": datetime(2026, 1, 10, 10, tzinfo=UTC)}, 3),
        ({"since": datetime(2026, 1, 10, 10, 0, 1, tzinfo=UTC)}, 2),
        ({"until": datetime(2026, 1, 12, tzinfo=UTC)}, 2),
        ({"until": datetime(2026, 1, 12, 0, 0, 1, tzinfo=UTC)}, 3),
        ({"since": datetime(2026, 1, 11, tzinfo=UTC), "until": datetime(2026, 1, 12, tzinfo=UTC)}, 1),
    ],
)
def test_the_window_is_of_the_calls_and_not_of_the_files(root: Path, bounds: Any, calls: int) -> None:
    times = ["2026-01-10T10:00:00Z", "2026-01-11T10:00:00Z", "2026-01-12T00:00:00Z"]
    put(root, file_name("20260112T0010Z"), *[record(time=time) for time in times])
    found = read(root, **bounds)
    assert found.calls == calls
    assert found.until == min(
        bounds.get("until", datetime.max.replace(tzinfo=UTC)), datetime(2026, 1, 12, 0, 10, tzinfo=UTC)
    )


def test_a_session_minted_before_the_window_still_joins(root: Path) -> None:
    put(root, file_name("20260109T2000Z"), mint(OLD, SESSIONS[0], "2026-01-09T19:50:00Z"))
    put(root, file_name("20260110T1005Z"), record(SESSIONS[0]))
    found = read(root, since=datetime(2026, 1, 10, tzinfo=UTC))
    assert (found.calls, found.sessions) == (1, 0)


def test_files_that_cannot_matter_are_not_opened(root: Path) -> None:
    put(root, file_name(), record())
    for name in (
        file_name("20250601T1005Z"),
        file_name("20260601T1005Z"),
        file_name(region="us-east-1"),
        file_name().replace(ACCOUNT, "999988887777"),
    ):
        put_bytes(root, name, b"unreadable")
    assert len(read(root).unread) == 4
    found = read(
        root,
        since=datetime(2026, 1, 1, tzinfo=UTC),
        until=datetime(2026, 2, 1, tzinfo=UTC),
        regions=frozenset({"eu-central-1"}),
        accounts=frozenset({ACCOUNT}),
    )
    assert (found.calls, found.unread) == (1, ())
    assert found.partial == (
        "only region eu-central-1 was asked for",
        f"only account {ACCOUNT} was asked for",
    )


CHAIN = [
    mint(OLD, SESSIONS[0]),
    mint(SESSIONS[0], SESSIONS[1]),
    mint(SESSIONS[1], SESSIONS[2]),
    record(SESSIONS[2]),
]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
@pytest.mark.parametrize("named", [True, False])
def test_chained_sessions_join_across_files_in_any_order(
    root: Path, order: tuple[int, ...], named: bool
) -> None:
    for number, index in enumerate(order):
        name = file_name(f"2026011{number}T1005Z") if named else f"{number}.json"
        put(root, name, CHAIN[index], record(FOREIGN), mint(FOREIGN, SESSIONS[3]), record(SESSIONS[3]))
    found = read(root)
    assert (found.calls, found.sessions) == (4, 3)
    assert {use.own_last for consumer in found.consumers for use in consumer.uses} == {
        datetime(2026, 1, 10, 9, tzinfo=UTC),
        None,
    }


def test_sessions_join_between_the_files_of_tasks_in_flight(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is a task of its own, and eight are under way before the first is taken in."""
    monkeypatch.setattr(archive, "_CHUNK_FILES", 1)
    monkeypatch.setattr(archive._ScanWorkers, "ahead", 8, raising=False)
    monkeypatch.setattr(archive._ScanWorkers, "__init__", _ahead(8))
    for number, index in enumerate((3, 2, 1, 0)):
        put(root, file_name(f"20260110T100{number}Z"), CHAIN[index])
    assert (read(root).calls, read(root).sessions) == (4, 3)


def _ahead(count: int) -> Callable[..., None]:
    start = archive._ScanWorkers.__init__

    def init(workers: archive._ScanWorkers, processes: int | None) -> None:
        start(workers, processes)
        workers.ahead = count

    return init


def test_a_minting_that_came_too_late_makes_the_usage_partial(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_CHUNK_FILES", 1)
    monkeypatch.setattr(archive, "_REMEMBERED_TASKS", 0)
    put(root, file_name("20260110T1005Z"), record(SESSIONS[0]))
    put(root, file_name("20260115T1005Z"), record())
    put(root, file_name("20260120T1005Z"), mint(OLD, SESSIONS[0]))
    found = read(root)
    assert found.calls == 2
    assert "came too late" in found.partial[0]


def test_what_is_remembered_of_other_sessions_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_CHUNK_FILES", 1)
    monkeypatch.setattr(archive, "_REMEMBERED_BYTES", 100)
    put(root, "1.json", record(SESSIONS[0]))
    put(root, "2.json", record(SESSIONS[1]))
    put(root, "3.json", mint(OLD, SESSIONS[0]))
    assert "came too late" in read(root).partial[0]


def _among_many(root: Path) -> None:
    for number in range(12):
        put(
            root,
            file_name(f"202601{10 + number}T1005Z"),
            CHAIN[number % 4],
            record(NEW, eventID=f"n{number}"),
        )


def test_two_processes_see_what_one_sees(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_POOL_FROM", {"spawn": 0})
    monkeypatch.setattr(archive, "_start_method", lambda: "spawn")
    monkeypatch.setattr(archive, "_CHUNK_FILES", 2)
    _among_many(root)
    one, two = (
        usage.read_usage(f"archive={root}", [OLD, NEW], UsageRequest(processes=count)) for count in (1, 2)
    )
    assert one == two
    assert (two[1].calls, two[1].sessions, two[0].calls) == (4, 3, 12)


def test_a_process_with_one_thread_forks(root: Path) -> None:
    """Forked workers see what one process sees, too; pytest itself may have threads."""
    _among_many(root)
    read_and_tell = f"""
from sparekey import usage
from sparekey.usage.sources import archive
archive._CHUNK_FILES = 2
archive._POOL_FROM = {{"fork": 0, "spawn": 1 << 40}}
how = archive._start_method()
found = usage.read_usage("archive={root}", ["{OLD}", "{NEW}"], usage.UsageRequest(processes=3))
print(how, usage.document(found).decode())
"""
    done = subprocess.run([sys.executable, "-c", read_and_tell], capture_output=True, text=True, check=True)
    how, document = done.stdout.split(" ", 1)
    alone = usage.read_usage(f"archive={root}", [OLD, NEW], UsageRequest(processes=1))
    assert document.strip() == usage.document(alone).decode()
    assert (how, done.stderr) == ("fork" if sys.platform == "linux" else "spawn", "")


def test_a_process_with_threads_does_not_fork() -> None:
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(archive._start_method).result() == "spawn"


def test_progress_tells_files_and_bytes(root: Path) -> None:
    received: list[ReadProgress] = []
    put(root, file_name(), record())
    put_bytes(root, "bad.json", b"{")
    read(root, progress=received.append)
    size = len(json.dumps({"Records": [record()]}))
    assert (received[-1].files, received[-1].bytes, received[-1].unread) == (2, size + 1, 1)


def test_the_document_is_of_its_schema(root: Path) -> None:
    put(
        root,
        file_name(),
        record(),
        record(time="2026-01-10T11:00:00Z", errorCode="AccessDenied", eventName="PutItem"),
    )
    put_bytes(root, "bad.json", b"{")
    document = json.loads(usage.document([read(root)]))
    assert document["schema"] == "sparekey/usage/1"
    assert document["unread"][0]["place"] == "bad.json"
    (key,) = document["keys"]
    assert (key["key"], key["calls"], key["errors"], key["sessions"]) == (OLD, 2, 1, 0)
    assert key["consumers"] == [
        {
            "agent": "Boto3",
            "source": "198.51.100.7",
            "actions": ["dynamodb:GetItem", "dynamodb:PutItem"],
            "calls": 2,
            "first_seen": "2026-01-10T10:00:00Z",
            "last_seen": "2026-01-10T11:00:00Z",
        }
    ]
