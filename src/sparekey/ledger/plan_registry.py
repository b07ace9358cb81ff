"""Which plans this state made: each is on record by its digest, which is over all that is in it.

A plan's file can be edited and given a new digest by anyone who may write it. A digest that stands in this
state's ledger was put there by sparekey, so the file with that digest is what sparekey wrote.
"""

from datetime import datetime

from sparekey.ledger.records import FencedError
from sparekey.ledger.store import Ledger
from sparekey.model import Value
from sparekey.plan import Plan

PREFIX = "p-"
KIND = "planned"


class PlanRegistered(Value, frozen=True):
    """The one entry of a plan's chain: its digest, and who made it."""

    plan_digest: str
    caller: str


def register_plan(ledger: Ledger, plan: Plan, at: datetime) -> None:
    """Put a plan that was just made on record; raises StateError."""
    body = {"plan_digest": plan.digest, "caller": plan.caller}
    try:
        ledger.append(PREFIX + plan.digest, KIND, body, at=at, must_be_first=True)
    except FencedError:
        return  # it is on record already


def is_registered(ledger: Ledger, plan: Plan) -> bool:
    """True where this state has made the plan."""
    entries = ledger.entries(PREFIX + plan.digest, kinds=(KIND,), limit=1)
    return any(entry.body.get("plan_digest") == plan.digest for entry in entries)
