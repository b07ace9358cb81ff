"""What is reported while work goes on holds nothing up."""

import threading

from sparekey.cli.secondary_output import SecondaryOutput


def test_calls_are_made_in_order_while_work_goes_on() -> None:
    aside, slow, made = SecondaryOutput(), threading.Event(), list[int]()

    def first() -> None:
        slow.wait(20)
        made.append(1)

    with aside.running():
        aside.call_later(first)
        aside.call_later(lambda: made.append(2))
        assert made == []
        slow.set()
    assert made == [1, 2]
