"""Which plans this state made: each is on record by its digest, which is over all that is in it.

A plan's file can be edited and given a new digest by whoever may write it. A digest that stands in this
state's ledger was put there by sparekey, so the file with that digest is what sparekey wrote.
"""

from datetime import datetime

from sparekey.ledger import FencedError, Ledger
from sparekey.plan import Plan

_PREFIX = "p-"
_KIND = "planned"


def remember(ledger: Ledger, plan: Plan, at: datetime) -> None:
    """Put a plan that was just made on record; raises StateError."""
    body = {"plan_digest": plan.digest, "caller": plan.caller}
    try:
        ledger.append(_PREFIX + plan.digest, _KIND, body, at=at, first=True)
    except FencedError:
        return  # it is on record already


def is_known(ledger: Ledger, plan: Plan) -> bool:
    """True where this state has made the plan."""
    found = ledger.entries(_PREFIX + plan.digest, kinds=(_KIND,), limit=1)
    return any(entry.body.get("plan_digest") == plan.digest for entry in found)
