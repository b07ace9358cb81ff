"""What processes tell each other while they read."""

import json
import multiprocessing
from pathlib import Path

from sparekey.usage.aggregation import Part
from sparekey.usage.archive.search import Needles, scan
from sparekey.usage.archive.session_feed import Board
from support.archive_samples import FOREIGN, OLD, SESSIONS, mint, put, record

SPAWN = multiprocessing.get_context("spawn")


def test_what_was_told_since_is_read_once() -> None:
    board = Board(SPAWN)
    board.tell({SESSIONS[0]: OLD})
    begin = board.end
    board.tell({SESSIONS[1]: OLD, SESSIONS[2]: FOREIGN})
    assert board.since(0) == {SESSIONS[0]: OLD, SESSIONS[1]: OLD, SESSIONS[2]: FOREIGN}
    assert board.since(begin) == {SESSIONS[1]: OLD, SESSIONS[2]: FOREIGN}
    assert board.since(board.end) == {}


def test_a_board_holds_what_was_told_last() -> None:
    board = Board(SPAWN, room=100)
    for number in range(40):
        begin = board.end
        told = {SESSIONS[number % 6]: OLD, SESSIONS[(number + 1) % 6]: FOREIGN}
        board.tell(told)
        assert board.since(begin) == told
    assert board.since(0) == {}


def test_a_session_that_is_told_of_is_looked_for_at_once(tmp_path: Path) -> None:
    board = Board(SPAWN)
    put(tmp_path, "mint.json", mint(OLD, SESSIONS[0]))
    put(tmp_path, "use.json", record(SESSIONS[0]), record(SESSIONS[1]))
    ours, theirs = (Needles({OLD: OLD}, board) for _ in range(2))
    part = Part()
    assert scan((tmp_path / "mint.json").read_bytes(), ours, Part()) == set()
    others = scan((tmp_path / "use.json").read_bytes(), theirs, part)
    assert others == {SESSIONS[1].encode()}
    assert [key for key, _ in part.cells] == [OLD]


def test_what_was_told_before_is_no_news() -> None:
    board = Board(SPAWN)
    board.tell({SESSIONS[0]: OLD})
    needles = Needles({OLD: OLD}, board, board.end)
    assert needles.news() == set()
    board.tell({SESSIONS[1]: OLD})
    assert needles.news() == {SESSIONS[1].encode()}
    assert needles.news() == set()
    assert needles.keys == {OLD: OLD, SESSIONS[1]: OLD}


class Late(Board):
    """Tells only when it is asked for the second time: the file is being read by then."""

    asked = 0

    @property
    def end(self) -> int:
        self.asked += 1
        return 0 if self.asked == 1 else super().end


def test_what_is_told_while_a_file_is_read_is_looked_for_in_it() -> None:
    board = Late(SPAWN)
    board.tell({SESSIONS[0]: OLD})
    records = [record(), record(SESSIONS[0], eventName="PutItem")]
    written = json.dumps({"Records": records}, separators=(",", ":"))  # as CloudTrail does
    part = Part()
    assert scan(written.encode(), Needles({OLD: OLD}, board), part) == set()
    assert {name for seen in part.cells.values() for name in seen.actions} == {"GetItem", "PutItem"}
