"""A plan that was made is on record once, however often it is made."""

from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest

from run.fake import NOW, VirtualClock, plan_for, small_company
from sparekey.ledger import Ledger
from sparekey.run import plans
from sparekey.run.verify import verify_all

PLAN = plan_for(small_company(VirtualClock()))


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with closing(Ledger.open("sqlite://")) as opened:
        yield opened


def test_a_plan_that_is_made_twice_is_on_record_once(ledger: Ledger) -> None:
    assert not plans.is_known(ledger, PLAN)
    plans.remember(ledger, PLAN, NOW)
    plans.remember(ledger, PLAN, NOW)
    assert [entry.kind for entry in ledger.entries(f"p-{PLAN.digest}")] == ["planned"]
    assert plans.is_known(ledger, PLAN)
    assert not plans.is_known(ledger, msgspec.structs.replace(PLAN, digest="0" * 64))
    assert verify_all(ledger).whole
