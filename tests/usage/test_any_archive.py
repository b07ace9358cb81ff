"""Archives that hypothesis makes: whatever they hold, the scanner reads what the plain reader reads."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparekey import usage
from sparekey.usage.aggregation import PartialUsage
from sparekey.usage.archive.search import IdMatcher, scan_log
from support import archive_samples, plain_archive_reader
from support.archive_samples import NEW, OLD

KEYS = [NEW, OLD]


@st.composite
def folders(draw: st.DrawFn) -> dict[str, bytes]:
    """Files by name: a list of records, dealt out to files that were delivered in any order."""
    records = draw(archive_samples.record_lists())
    count = draw(st.integers(1, 4))
    hands: list[list[Any]] = [[] for _ in range(count)]
    for one in records:
        hands[draw(st.integers(0, count - 1))].append(one)
    named = draw(st.booleans())
    return {
        archive_samples.file_name(f"202601{12 + number}T0000Z", unique=str(number))
        if named
        else f"{number}.json": draw(archive_samples.log_files(hand))
        for number, hand in enumerate(hands)
    }


@pytest.mark.slow
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(folders())
def test_the_scanner_reads_what_the_plain_reader_reads(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            archive_samples.put_bytes(Path(folder), name, data)
        expected = plain_archive_reader.usages(list(plain_archive_reader.read_records(Path(folder))), KEYS)
        for entry in usage.read_usage(f"archive={folder}", KEYS, usage.UsageRequest(processes=1)):
            assert {name: getattr(entry, name) for name in expected[entry.key]} == expected[entry.key]
            assert (entry.partial, entry.unread) == ((), ())
            usage.document([entry])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | st.builds(lambda text: b'{"Records":[' + text, st.binary(max_size=50)))
def test_no_file_ends_the_reading(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive_samples.put(Path(folder), "good.json", archive_samples.record())
        archive_samples.put_bytes(Path(folder), "odd.json", data)
        (entry,) = usage.read_usage(f"archive={folder}", [OLD], usage.UsageRequest(processes=1))
    assert entry.calls == 1
    assert {fault.what for fault in entry.unread} <= {"odd.json"}


@settings(max_examples=60, deadline=None)
@given(archive_samples.record_lists(), st.data())
def test_a_file_cut_short_counts_nothing(records: list[Any], data: st.DataObject) -> None:
    whole = data.draw(archive_samples.log_files([archive_samples.record(), *records]))
    if whole[:2] != b"\x1f\x8b":
        return
    whole = whole.rstrip(b"\0")
    cut = whole[: data.draw(st.integers(3, len(whole) - 5))]
    part = PartialUsage()
    try:
        scan_log(cut, IdMatcher({OLD: OLD}), part)
    except ValueError:
        assert part.uses == {}
    else:
        raise AssertionError("a file that ends in the middle was taken for a whole one")
