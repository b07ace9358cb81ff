"""Many works in one thread of decisions, their calls in others."""

import threading
from datetime import timedelta

import pytest

from sparekey.aws.errors import UnreachableError
from sparekey.runs.context import LongCall, StepCoroutine, perform
from sparekey.runs.scheduler import run_all
from support.clocks import NOW, RunningClock, VirtualClock


def test_calls_overlap_but_no_more_than_asked_for() -> None:
    together = threading.Barrier(3, timeout=20)
    lock, under_way, most = threading.Lock(), 0, 0

    def call() -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait()  # breaks where fewer than three are under way at once
        with lock:
            under_way -= 1
        return 7

    def work() -> StepCoroutine[None]:
        assert (yield from perform(call)) == 7

    run_all((work() for _ in range(12)), RunningClock(), at_once=3)
    assert most == 3


@pytest.mark.parametrize("at_once", [1, 4])
def test_the_answer_and_the_failure_of_a_call_reach_the_work_that_asked(at_once: int) -> None:
    result: list[str] = []

    def work(number: int) -> StepCoroutine[None]:
        try:
            result.append((yield from perform(lambda: f"answer {10 // number}")))
        except ZeroDivisionError:
            result.append("failed")
            raise
        yield 0.01
        result.append(f"rested {number}")

    with pytest.raises(ZeroDivisionError):
        run_all((work(number) for number in (0, 1, 2)), RunningClock(), at_once=at_once)
    assert sorted(result) == ["answer 10", "answer 5", "failed", "rested 1", "rested 2"]


def test_what_is_begun_is_finished_before_more_is_asked() -> None:
    asked: list[tuple[int, str]] = []

    def work(number: int) -> StepCoroutine[None]:
        for what in ("read", "set"):
            yield from perform(lambda what=what: asked.append((number, what)))  # type: ignore[misc]
            yield 0

    run_all((work(number) for number in range(3)), VirtualClock())
    assert asked == [(number, what) for number in range(3) for what in ("read", "set")]


def test_waits_overlap_and_a_clock_set_back_holds_up_nobody() -> None:
    clock = VirtualClock()

    def work(number: int) -> StepCoroutine[None]:
        yield 10.0
        if number == 0:
            clock.time -= timedelta(hours=1)
        yield 10.0

    run_all((work(number) for number in range(100)), clock, in_flight=100)
    assert clock.now() < NOW + timedelta(seconds=200)


def test_a_late_answer_reaches_no_call_that_was_made_since() -> None:
    late = threading.Event()
    answers: list[str] = []

    def first() -> str:
        late.wait(20)
        return "late"

    def work() -> StepCoroutine[None]:
        with pytest.raises(UnreachableError, match=r"did not answer within 0\.5 s"):
            yield from perform(first)
        late.set()
        yield 0.1
        answers.append((yield from perform(lambda: "second")))

    run_all([work()], RunningClock(), at_once=2, deadline=0.5)
    assert answers == ["second"]


def test_a_long_call_has_its_own_deadline_while_another_is_given_up() -> None:
    cut, answers = threading.Event(), list[str]()

    def long() -> str:
        assert cut.wait(20)
        return "whole"

    def patient() -> StepCoroutine[None]:
        answers.append((yield from perform(LongCall(long, 60.0))))

    def hasty() -> StepCoroutine[None]:
        with pytest.raises(UnreachableError):
            yield from perform(lambda: cut.wait(20))
        cut.set()

    run_all([patient(), hasty()], RunningClock(), at_once=2, deadline=0.3)
    assert answers == ["whole"]
