"""Every file under an archive's place is read, or another service's, or named as unread; never "no use"."""

import bz2
import gzip
import json
import lzma
import os
import socket
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from sparekey import usage
from sparekey.errors import UnreadError
from sparekey.model import Usage
from sparekey.usage.archive import decompression, search, storage
from sparekey.usage.archive.delivering_services import delivering_service
from sparekey.usage.archive.other_files import explain_other_file
from sparekey.usage.archive.storage import open_storage
from sparekey.usage.request import UsageRequest
from support.archive_samples import ACCOUNT, NEW, OLD, SESSIONS, file_name, mint, put, put_bytes, record


def read(root: Path, **options: Any) -> Usage:
    (found,) = usage.read_usage(f"archive={root}", [OLD], UsageRequest(processes=1, **options))
    return found


def log(*records: Any, **options: Any) -> bytes:
    return json.dumps({"Records": records or [record()]}, **options).encode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An archive with one good file of one call."""
    put(tmp_path / "trail", file_name(unique="good"), record(eventID="good"))
    return tmp_path / "trail"


def zipped(data: bytes) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("c.json", data)
    return file.getvalue()


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda data: data,
    "gzip": gzip.compress,
    "gzip twice": lambda data: gzip.compress(gzip.compress(data)),
    "two members": lambda data: gzip.compress(data[:40]) + gzip.compress(data[40:]),
    "many members": lambda data: gzip.compress(b"") * 5_000 + gzip.compress(data) + b"\0" * 70_000,
    "bzip2": bz2.compress,
    "bzip2, two members": lambda data: bz2.compress(data[:40]) + bz2.compress(data[40:]),
    "gzip of bzip2": lambda data: gzip.compress(bz2.compress(data)),
    "xz": lzma.compress,
    "UTF-8 with a mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-16 LE without a mark": lambda data: data.decode().encode("utf-16-le"),
    "UTF-16 BE without a mark": lambda data: data.decode().encode("utf-16-be"),
    "UTF-32": lambda data: data.decode().encode("utf-32"),
    "gzip of UTF-16": lambda data: gzip.compress(data.decode().encode("utf-16")),
    "Windows line ends": lambda data: json.dumps(json.loads(data), indent=1).replace("\n", "\r\n").encode(),
    "JSON lines": lambda data: b"\r\n".join(json.dumps(r).encode() for r in json.loads(data)["Records"]),
    "an escaped id": lambda data: data.replace(b"AKIA", b"\\u0041KIA"),
    "escaped names": lambda data: data.replace(b"accessKeyId", b"\\u0061ccessKeyId").replace(
        b"Rec", b"\\u0052ec"
    ),
    "after 70 KB of space": lambda data: b" " * 70_000 + data,
}
NAMES = [
    "c.json",
    "c.json.gz",
    "c.json.bz2",
    "c.txt",
    "c.bak",
    "c",
    "deep/er/c.JSON.1",
    "README.md",
    ".hidden",
]


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_read_in_whichever_way_it_is_written(root: Path, way: str) -> None:
    for name in NAMES[:3]:
        put_bytes(root, name, WAYS[way](log(record(), mint(OLD, SESSIONS[0]), record(SESSIONS[0]))))
    found = read(root)
    assert (found.calls, found.sessions, found.unread) == (4, 1, ())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_read_whatever_its_name(root: Path, name: str) -> None:
    put_bytes(root, name, log())
    assert (read(root).calls, read(root).unread) == (2, ())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (zipped(log()), "a zip archive"),
        (b"\x28\xb5\x2f\xfd" + log(), "compressed with zstd"),
        (b"PAR1" + log(), "a Parquet file"),
        (b"x" * 257 + b"ustar\0" + log(), "a tar archive"),
        (gzip.compress(gzip.compress(gzip.compress(gzip.compress(log())))), "not JSON"),
        (bz2.compress(log())[:-9], "the bzip2 data is cut short"),
        (b"BZh9" + log(), "not a bzip2 file"),
        (lzma.compress(log())[:-9], "the xz data is cut short"),
        (b"\xff\xfe" + log() + b" " * (len(log()) % 2), "not JSON"),
        (b"\xff\xfe" + log() + b" " * (1 - len(log()) % 2), "not text in utf-16"),
        (b"\xff\xfe\0\0" + log(), "not text in utf-32"),
        (log() + log().decode().encode("utf-16-le"), "not JSON"),
        (log()[:-30], "not JSON"),
        (log().decode().encode("cp037"), "not JSON"),
        (b'{"Records":[1],' + log()[1:], "written twice"),
        (log()[:-1] + b',"Records":[]}', "written twice"),
        (log().replace(b'"userIdentity"', b'"userIdentity": {}, "userIdentity"'), "written twice"),
        (log().replace(b'"accessKeyId":', b'"accessKeyId": "x", "accessKeyId":'), "written twice"),
        (log(separators=(",", ":")).replace(b'"accessKeyId":', b'"accessKeyId":"x","accessKeyId":'), "twice"),
        (
            log(separators=(",", ":")).replace(b'"userIdentity":', b'"userIdentity":null,"userIdentity":'),
            "twice",
        ),
        (log(json.dumps(record())), "who signed it"),
        (log([record()]), "who signed it"),
        (log(record() | {"userIdentity": json.dumps(record()["userIdentity"])}), "who signed it"),
        (log({"useridentity": {"accesskeyid": OLD}}), "who signed it"),
        (log(record() | {"userIdentity": {"AccessKeyId": OLD}}), "who signed it"),
        (log(record() | {"userIdentity": {"accessKeyId": [OLD]}}, separators=(",", ":")), "who signed it"),
        (json.dumps([record()]).encode(), "no CloudTrail records"),
        (json.dumps({"detail": record()}).encode(), "no CloudTrail records"),
        (b"eventtime,accesskeyid\n2026-01-10," + OLD.encode(), "not JSON"),
        (b"\0\1\2\3" * 9, "not JSON"),
        (b"QUtJQU9MREFBQUFBQUFBQUFBQUE=" * 20, "not JSON"),
    ],
)
@pytest.mark.parametrize("name", ["c.json", "c"])
def test_what_cannot_be_read_is_named(root: Path, data: bytes, why: str, name: str) -> None:
    put_bytes(root, name, data)
    found = read(root)
    assert [entry.what for entry in found.unread] == [name]
    assert why in found.unread[0].why
    assert found.calls == 1


def test_a_record_that_only_speaks_of_the_key_is_no_fault(root: Path) -> None:
    for separators in ((",", ":"), (", ", ": ")):
        spoken = record(None) | {"requestParameters": {"accessKeyId": OLD}, "eventID": "x"}
        put_bytes(root, "c.json", log(spoken, separators=separators))
        assert (read(root).calls, read(root).unread) == (1, ())


# Links, and what is no file ---------------------------------------------------------------------------------


def test_a_linked_folder_is_read_once(root: Path, tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/below/c.json", record())
    for name in ("more", "again"):
        (root / name).symlink_to("../elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/home").symlink_to(root)
    (root / "loop").symlink_to(root)
    found = read(root)
    assert (found.calls, found.unread) == (2, ())


def test_a_link_keeps_the_order_of_the_files(root: Path) -> None:
    (root / "0").symlink_to(root / "AWSLogs")
    (root / "link.json").symlink_to(next(root.rglob("*.gz")))
    assert (read(root).calls, read(root).unread) == (1, ())


def test_a_link_into_a_folder_that_is_not_walked_is_followed(root: Path) -> None:
    put(root, f"AWSLogs/{ACCOUNT}/vpcflowlogs/c.json", record())
    assert read(root).calls == 1
    (root / "more").symlink_to(root / f"AWSLogs/{ACCOUNT}/vpcflowlogs")
    assert read(root).calls == 2


def test_what_is_no_file_is_named(root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "zero").symlink_to("/dev/zero")
    (root / "up").symlink_to(tmp_path)
    (root / "self").symlink_to(root / "self")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(root)  # the path of a socket is short
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
        found = read(root)
    assert [entry.what for entry in found.unread] == ["pipe", "self", "socket", "up", "zero"]
    assert found.calls == 1


def test_a_name_that_is_no_text_can_be_told(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.json")).write_bytes(b"{")
    found = read(root)
    assert [entry.what for entry in found.unread] == ["?.json"]
    usage.document([found])


def test_a_place_that_cannot_be_listed_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sparekey.usage.archive.storage.LocalStorage.children", refuse)
    with pytest.raises(UnreadError, match=f"^{root} could not be read: Permission denied"):
        read(root)


def test_a_file_that_changes_while_it_is_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_bytes(root, "c.json", b" " * 70_000 + log())
    rest = storage._remaining

    def slowly(file: int) -> bytes:
        with path.open("ab") as more:
            more.write(b"\n")
        return rest(file)

    monkeypatch.setattr(storage, "_remaining", slowly)
    assert [(entry.what, entry.why) for entry in read(root).unread] == [
        ("c.json", "it changed while it was read")
    ]


# What AWS puts beside logs ----------------------------------------------------------------------------------

DIGEST = json.dumps(
    {"awsAccountId": ACCOUNT, "digestStartTime": "x", "digestEndTime": "x", "logFiles": [OLD]}
)
FLOW = "version account-id interface-id srcaddr\n2 111122223333 eni-1 10.0.0.1\n"
S3_LOG = f"{'a' * 64} bucket [10/Jan/2026:10:00:00 +0000] 198.51.100.7 - ID REST.GET.OBJECT x?X-Amz-Credential={OLD}"
OTHERS = [
    (f"AWSLogs/{ACCOUNT}/CloudTrail-Digest/eu-central-1/2026/01/10/x.json.gz", "not opened"),
    (f"AWSLogs/{ACCOUNT}/CloudTrail-Insight/eu-central-1/2026/01/10/x.json.gz", "not opened"),
    (f"AWSLogs/o-abc/{ACCOUNT}/Config/ConfigWritabilityCheckFile", ""),
    (f"AWSLogs/{ACCOUNT}/GuardDuty/eu-central-1/2026/01/10/x.jsonl.gz", "not opened"),
    (
        f"AWSLogs/aws-account-id={ACCOUNT}/aws-service=vpcflowlogs/aws-region=eu-central-1/x.log.gz",
        "not opened",
    ),
    (f"AWSLogs/{ACCOUNT}/NewService/2026/01/10/x.json.gz", '{"detail": 1}\n{"detail": 2}'),
    (f"AWSLogs/{ACCOUNT}/NewService/2026/01/10/x.log", "a line\n"),
    (f"{ACCOUNT}_CloudTrail-Digest_eu-central-1_t_eu-central-1_20260110T100000Z.json.gz", '{"x": 1}'),
    (f"{ACCOUNT}_vpcflowlogs_eu-central-1_fl-1_20260110T1000Z_x.log.gz", FLOW),
    (
        f"{ACCOUNT}_elasticloadbalancing_eu-central-1_app.x_20260110T1000Z_x.log.gz",
        "h2 2026-01-10T10:00:00Z x",
    ),
    ("renamed/digest.json", DIGEST),
    ("renamed/flow.log", FLOW),
    ("renamed/config.json", json.dumps({"fileVersion": "1.0", "configSnapshotId": "x"})),
    ("s3/2026-01-10-10-00-00-0123456789ABCDEF", S3_LOG),
    ("s3/renamed.log", S3_LOG),
    ("cdn/EMLARXS9EXAMPLE.2026-01-10-10.a103fd5a.gz", "#Version: 1.0\n#Fields: date\n"),
    ("LICENSE", "MIT License\n\nCopyright (c) somebody, and so on.\n"),
    ("notes.txt", ""),
]


@pytest.mark.parametrize(("name", "text"), OTHERS, ids=[name for name, _ in OTHERS])
def test_a_file_of_another_service_is_no_fault(root: Path, name: str, text: str) -> None:
    data = text.encode()
    put_bytes(root, name, gzip.compress(data) if name.endswith(".gz") else data)
    assert (read(root).calls, read(root).unread) == (1, ())


def test_a_text_too_long_to_be_searched_is_not_explained(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparekey.usage.archive.other_files._MOST", 9)
    put_bytes(root, "notes", b"A short note.\n")
    put_bytes(root, "digest.json", DIGEST.encode())
    assert [entry.what for entry in read(root).unread] == ["digest.json", "notes"]


def test_litter_is_known_by_its_name_and_its_content(root: Path) -> None:
    put_bytes(root, ".DS_Store", b"\0\0\0\1Bud1" + b"\0" * 90)
    assert read(root).unread == ()
    put_bytes(root, ".DS_Store", b"\0\0\0\1")
    assert len(read(root).unread) == 1


@pytest.mark.parametrize(
    "name",
    [
        f"{ACCOUNT}_CloudTrail-Digest_eu-central-1_t_eu-central-1_20260110T100000Z.json.gz",
        f"AWSLogs/{ACCOUNT}/CloudTrail-copy/c.json",
        f"AWSLogs/{ACCOUNT}/NewService/c.json",
        f"AWSLogs/{ACCOUNT}/elsewhere/{ACCOUNT}_CloudTrail_eu-central-1_20260110T1005Z_x.json.gz",
        "s3/2026-01-10-10-00-00-0123456789ABCDEF",
    ],
)
def test_a_log_by_another_name_is_read(root: Path, name: str) -> None:
    put(root, name, record())
    assert read(root).calls == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("renamed/digest.json", DIGEST[:-1]),
        ("readme.md", f"The key is {OLD}."),
        ("notes", "{ not a log"),
        ("notes", '"a text"'),
        ("notes", "\x00"),
        ("notes", "\\u0041KIA…"),
        (f"AWSLogs/{ACCOUNT}/NewService/x.json", "{ cut"),
        (f"{ACCOUNT}_CloudTrail-Digest_x_20260110T100000Z.json.gz", f'{{"x": "{OLD}"}}'),
        (f"{ACCOUNT}_CloudTrail-Digest_x_20260110T100000Z.json.gz", "\x1f\x8b"),
        (f"AWSLogs/{ACCOUNT}/NewService/x.json", f'{{"key": "{OLD}"}}'),
    ],
)
def test_what_may_be_part_of_a_log_is_not_explained_away(root: Path, name: str, text: str) -> None:
    put_bytes(root, name, text.encode())
    assert len(read(root).unread) == 1


def test_services_are_known_by_the_layout_alone() -> None:
    assert delivering_service(f"/x/AWSLogs/o-abc/{ACCOUNT}/WAFLogs/eu-central-1")
    assert not delivering_service(f"/x/AWSLogs/{ACCOUNT}/CloudTrail/eu-central-1")
    assert not delivering_service("/x/Config/2026")
    assert not delivering_service(f"/AWSLogs/aws-account-id={ACCOUNT}/aws-service=cloudtrail/x")
    assert not explain_other_file("/x/c.json", b"{" * 10)


# Bombs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00+23:59",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T00:00:00Z",
        "1969-12-31T00:00:00Z",
        "2026-01-10T25:00:00Z",
        "",
    ],
)
def test_a_time_out_of_range_is_named_and_the_rest_is_read(root: Path, time: str) -> None:
    put(root, "c.json", *[record(time=time, eventID=f"{n}") for n in range(3)], record(eventID="fine"))
    found = read(root)
    assert (found.calls, [entry.what for entry in found.unread]) == (2, ["c.json"])


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=23, minutes=59))), None),
        (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),
        (None, datetime.max.replace(tzinfo=timezone(-timedelta(hours=23, minutes=59)))),
    ],
)
def test_any_window_can_be_asked_for(root: Path, since: datetime | None, until: datetime | None) -> None:
    assert read(root, since=since, until=until).calls == 1


@pytest.mark.parametrize("day", ["9999/12/31", "0000/00/00", "9" * 40, "2026/99999999999999999999/1"])
def test_any_folder_may_stand_in_the_place_of_a_day(root: Path, day: str) -> None:
    put(root, f"AWSLogs/{ACCOUNT}/CloudTrail/us-east-1/{day}/c.json", record())
    assert read(root).calls == 2
    assert read(root, since=datetime(2025, 1, 1, tzinfo=UTC)).unread == ()


def test_a_name_of_the_future_says_nothing_of_what_was_read(root: Path) -> None:
    put(root, file_name("99991231T2359Z"), record())
    until = read(root).until
    assert until is not None
    assert until <= datetime.now(UTC)


def test_a_sparse_file_is_refused_by_its_size(root: Path) -> None:
    with (root / "sparse.json.gz").open("wb") as file:
        file.truncate(1 << 40)
    assert [(entry.what, entry.why) for entry in read(root).unread] == [
        ("sparse.json.gz", "larger than 512 MiB")
    ]


def test_a_file_is_unpacked_up_to_a_bound(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (decompression, storage):
        monkeypatch.setattr(module, "LARGEST", 1 << 20)
    bombs = {
        "one": gzip.compress(b"\0" * (1 << 21)),
        "many": gzip.compress(b" " * (1 << 18)) * 9,
        "bz2": bz2.compress(b"\0" * (1 << 21)),
        "xz": lzma.compress(b"\0" * (1 << 21)),
        "plain": b" " * (1 << 21),
    }
    for name, data in bombs.items():
        put_bytes(root, f"{name}.json", data)
    found = read(root)
    assert {entry.what.removesuffix(".json"): entry.why for entry in found.unread} == dict.fromkeys(
        sorted(bombs), "larger than 512 MiB"
    )


def test_members_are_counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "_MAX_MEMBERS", 3)
    put_bytes(root, "c.json", gzip.compress(b"") * 5)
    assert [entry.why for entry in read(root).unread] == ["larger than 512 MiB"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"Records":[' + b"1," * 900 + b"1]}", "more values"),
        (b'{"Records":[' + b"{}," * 90 + b"{}]}", "more values"),
        (b" " * 3_000 + log()[:-1], "a line of it is larger"),
        (b"\n" * 3_000, "it is empty"),
    ],
)
def test_a_long_text_is_counted_before_it_is_taken_apart(
    root: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, why: str
) -> None:
    monkeypatch.setattr(search, "_LONG", 1 << 8)
    monkeypatch.setattr(search, "_MOST_COMMAS", 500)
    monkeypatch.setattr(search, "_MOST_OBJECTS", 50)
    put_bytes(root, "c.json", data)
    (fault,) = read(root).unread
    assert (fault.what, why in fault.why) == ("c.json", True)


def test_a_file_that_needs_too_much_memory_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(text: bytes) -> Any:
        raise MemoryError

    monkeypatch.setattr(search, "_document", greedy)
    put_bytes(root, "c.json", b"{ }")
    assert [entry.why for entry in read(root).unread] == ["it needs more memory than there is"]


def test_what_is_kept_of_a_record_is_bounded(root: Path) -> None:
    put(root, "c.json", record(userAgent="aws-cli/" * 9_000, eventName="x" * 9_000))
    (consumer,) = [one for one in read(root).consumers if one.agent == "aws-cli"]
    assert len(consumer.uses[0].actions[0]) == 200


# The window of files without a time in their names ------------------------------------------------------------


def test_files_without_a_time_cover_what_their_calls_cover(tmp_path: Path) -> None:
    put(tmp_path, "a.json", record(time="2026-01-10T10:00:00Z"), record(NEW, "2026-01-01T00:00:00Z"))
    put(tmp_path, "b.json", record(time="2026-02-10T10:00:00Z"))
    found = read(tmp_path)
    assert (found.since, found.until) == (
        datetime(2026, 1, 10, 10, tzinfo=UTC),
        datetime(2026, 2, 10, 10, tzinfo=UTC),
    )
    (found,) = usage.read_usage(f"archive={tmp_path}", [NEW], UsageRequest(processes=1))
    assert found.since == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_loose_file_does_not_hide_when_the_others_were_delivered(root: Path) -> None:
    put_bytes(root, "LICENSE", b"Some license.\n")
    assert read(root).since == datetime(2026, 1, 10, 10, 5, tzinfo=UTC)


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    put_bytes(tmp_path, "LICENSE", b"Some license.\n")
    with pytest.raises(UnreadError, match="nothing under"):
        read(tmp_path)


def test_a_place_says_what_is_in_a_folder(root: Path) -> None:
    found = open_storage(str(root)).children("")
    assert (found.folders, found.files, found.unread) == (["AWSLogs"], [], [])
