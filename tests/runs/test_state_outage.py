"""A process that needs the state reports when it cannot be used, and when it can again."""

import threading
import time
from collections.abc import Callable

from sparekey.app.state_outage import report_outages
from sparekey.ledger.database import StateAwayError


class Checked:
    """A state whose checks end as a test says."""

    def __init__(self) -> None:
        self.act: Callable[[], None] = lambda: None
        self.received: list[str] = []
        self.heard = threading.Event()

    def check(self) -> None:
        self.act()

    def tell(self, what: str) -> None:
        self.received.append(what)
        self.heard.set()

    def wait(self) -> str:
        assert self.heard.wait(20)
        self.heard.clear()
        return self.received[-1]


def _away() -> None:
    raise StateAwayError("the database is away")


def _odd() -> None:
    raise KeyError("x")


def test_away_and_back_are_reported_once_each() -> None:
    state = Checked()
    with report_outages(state, state.tell, every=0.01, no_answer=60):  # type: ignore[arg-type]  # all that is asked
        for act, received in ((_away, "the database is away"), (_odd, "the state cannot be used: KeyError")):
            state.act = act
            assert state.wait() == f"{received}; runs may stand still until it can be used again"
            state.act = lambda: None
            assert state.wait().startswith("the state can be used again after ")
    assert len(state.received) == 4


def test_no_answer_is_reported() -> None:
    state, answer = Checked(), threading.Event()

    def wait_for_it() -> None:
        answer.wait(20)

    state.act = wait_for_it
    with report_outages(state, state.tell, every=0.01, no_answer=0.05):  # type: ignore[arg-type]  # see above
        assert "the state has not answered for" in state.wait()
        answer.set()
        assert "can be used again" in state.wait()


def test_nothing_is_reported_of_a_state_that_works() -> None:
    state = Checked()
    with report_outages(state, state.tell, every=0.01, no_answer=60):  # type: ignore[arg-type]  # see above
        time.sleep(0.05)
    assert state.received == []
