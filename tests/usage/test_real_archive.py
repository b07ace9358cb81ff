"""A real account's archive (MIT licence beside it): the scanner and the plain reader agree field by field."""

from pathlib import Path

import pytest

from sparekey import usage
from sparekey.model import Usage
from support import plain_archive_reader

ARCHIVE = Path(__file__).parents[1] / "data" / "cloudtrail"
KEYS = ["AKIATFQR7NSC8Q4X20BJ", "AKIATFQR7NSCUXC3DDDP", "AKIATFQZ7NSC8Q4X21BJ", "AKIATFQR7NSC3ZO6PKAZ"]


@pytest.fixture(scope="module")
def seen() -> tuple[Usage, ...]:
    return usage.read_usage(f"archive={ARCHIVE}", KEYS)


def test_it_is_the_archive_that_was_measured() -> None:
    records = list(plain_archive_reader.read_records(ARCHIVE))
    assert len(records) == 1667
    assert (ARCHIVE / "LICENSE").read_text().startswith("MIT License")


def test_the_scanner_and_the_plain_reader_agree(seen: tuple[Usage, ...]) -> None:
    expected = plain_archive_reader.usages(list(plain_archive_reader.read_records(ARCHIVE)), KEYS)
    assert [entry.key for entry in seen] == sorted(KEYS)
    for entry in seen:
        found = {name: getattr(entry, name) for name in expected[entry.key]}
        assert found == expected[entry.key]
        assert (entry.partial, entry.unread) == ((), ())


def test_sessions_count_for_the_key_that_minted_them(seen: tuple[Usage, ...]) -> None:
    by_key = {entry.key: entry for entry in seen}
    # 1,255 calls signed with the key itself, 25 by the sessions of the 8 roles that it assumed.
    assert (by_key[KEYS[0]].calls, by_key[KEYS[0]].sessions) == (1280, 8)
    assert (by_key[KEYS[1]].calls, by_key[KEYS[1]].sessions) == (28, 0)


def test_a_key_that_is_only_spoken_of_is_not_used(seen: tuple[Usage, ...]) -> None:
    quiet = next(entry for entry in seen if entry.key == KEYS[3])
    assert (quiet.calls, quiet.consumers, quiet.first_seen) == (0, (), None)


@pytest.mark.parametrize("key", KEYS[:2])
def test_one_key_alone_is_read_as_among_others(seen: tuple[Usage, ...], key: str) -> None:
    assert usage.read_usage(f"archive={ARCHIVE}", [key]) == tuple(entry for entry in seen if entry.key == key)
