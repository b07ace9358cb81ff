"""What processes tell each other while they read."""

import json
import multiprocessing
from pathlib import Path

from sparekey.usage.aggregation import PartialUsage
from sparekey.usage.archive.search import IdMatcher, scan_log
from sparekey.usage.archive.session_feed import SessionFeed
from support.archive_samples import FOREIGN, OLD, SESSIONS, mint, put, record

SPAWN = multiprocessing.get_context("spawn")


def test_what_was_told_since_is_read_once() -> None:
    board = SessionFeed(SPAWN)
    board.publish({SESSIONS[0]: OLD})
    begin = board.end
    board.publish({SESSIONS[1]: OLD, SESSIONS[2]: FOREIGN})
    assert board.read_from(0) == {SESSIONS[0]: OLD, SESSIONS[1]: OLD, SESSIONS[2]: FOREIGN}
    assert board.read_from(begin) == {SESSIONS[1]: OLD, SESSIONS[2]: FOREIGN}
    assert board.read_from(board.end) == {}


def test_a_board_holds_what_was_told_last() -> None:
    board = SessionFeed(SPAWN, room=100)
    for number in range(40):
        begin = board.end
        received = {SESSIONS[number % 6]: OLD, SESSIONS[(number + 1) % 6]: FOREIGN}
        board.publish(received)
        assert board.read_from(begin) == received
    assert board.read_from(0) == {}


def test_a_session_that_is_told_of_is_looked_for_at_once(tmp_path: Path) -> None:
    board = SessionFeed(SPAWN)
    put(tmp_path, "mint.json", mint(OLD, SESSIONS[0]))
    put(tmp_path, "use.json", record(SESSIONS[0]), record(SESSIONS[1]))
    ours, theirs = (IdMatcher({OLD: OLD}, board) for _ in range(2))
    part = PartialUsage()
    assert scan_log((tmp_path / "mint.json").read_bytes(), ours, PartialUsage()) == set()
    others = scan_log((tmp_path / "use.json").read_bytes(), theirs, part)
    assert others == {SESSIONS[1].encode()}
    assert [key for key, _ in part.uses] == [OLD]


def test_what_was_told_before_is_no_news() -> None:
    board = SessionFeed(SPAWN)
    board.publish({SESSIONS[0]: OLD})
    needles = IdMatcher({OLD: OLD}, board, board.end)
    assert needles.read_feed() == set()
    board.publish({SESSIONS[1]: OLD})
    assert needles.read_feed() == {SESSIONS[1].encode()}
    assert needles.read_feed() == set()
    assert needles.keys == {OLD: OLD, SESSIONS[1]: OLD}


class Late(SessionFeed):
    """Tells only when it is asked for the second time: the file is being read by then."""

    asked = 0

    @property
    def end(self) -> int:
        self.asked += 1
        return 0 if self.asked == 1 else super().end


def test_what_is_told_while_a_file_is_read_is_looked_for_in_it() -> None:
    board = Late(SPAWN)
    board.publish({SESSIONS[0]: OLD})
    records = [record(), record(SESSIONS[0], eventName="PutItem")]
    written = json.dumps({"Records": records}, separators=(",", ":"))  # as CloudTrail does
    part = PartialUsage()
    assert scan_log(written.encode(), IdMatcher({OLD: OLD}, board), part) == set()
    assert {name for seen in part.uses.values() for name in seen.actions} == {"GetItem", "PutItem"}
