"""What a decision on a user's keys rests on, beside the user itself."""

from collections.abc import Mapping
from datetime import datetime

from sparekey.model import Caller, Usage, Value
from sparekey.policy import Policy


class Overrides(Value, frozen=True):
    """What a person overruled: keys named to be kept, keys forced out with a reason, old keys allowed.

    `never_reactivate` names forced keys that are reactivated by nobody but a person. `rotate` asks for a new key
    where a user has no young one.
    """

    keep: tuple[str, ...] = ()
    force: Mapping[str, str] = {}
    keep_old: bool = False
    never_reactivate: tuple[str, ...] = ()
    rotate: bool = False


NO_OVERRIDES = Overrides()
NO_USAGES: Mapping[str, Usage] = {}


class DecisionContext(Value, frozen=True):
    """The policy, the time, the identities that sign for sparekey, a person's overrides, and usages by key id."""

    policy: Policy
    now: datetime
    caller: Caller
    overrides: Overrides = NO_OVERRIDES
    usages: Mapping[str, Usage] = NO_USAGES
