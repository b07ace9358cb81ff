"""A plan that was made is on record once, however often it is made."""

from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest

from sparekey.ledger import plan_registry
from sparekey.ledger.store import Ledger
from sparekey.ledger.verification import verify_all
from support.clocks import NOW, VirtualClock
from support.fake_aws import plan_for, small_company

PLAN = plan_for(small_company(VirtualClock()))


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with closing(Ledger.open("sqlite://")) as opened:
        yield opened


def test_a_plan_that_is_made_twice_is_on_record_once(ledger: Ledger) -> None:
    assert not plan_registry.is_registered(ledger, PLAN)
    plan_registry.register_plan(ledger, PLAN, NOW)
    plan_registry.register_plan(ledger, PLAN, NOW)
    assert [entry.kind for entry in ledger.entries(f"p-{PLAN.digest}")] == ["planned"]
    assert plan_registry.is_registered(ledger, PLAN)
    assert not plan_registry.is_registered(ledger, msgspec.structs.replace(PLAN, digest="0" * 64))
    assert verify_all(ledger).intact
