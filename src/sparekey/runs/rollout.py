"""Which users go now: waves with a rule between them, change windows; none of it binds the way back."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sparekey.ledger.events import Stopped, WaveStarted
from sparekey.runs.change_windows import is_open, next_opening
from sparekey.runs.context import Hands
from sparekey.runs.projection import KeyFacts, KeyId, Run, RunFold

# How soon an account whose carrying was cut off is tried again, twice as late each time, and how often.
_SOON, _TRIES, _LONGEST = timedelta(minutes=1), 6, timedelta(minutes=32)


def accounts_now(hands: Hands, run: Run, fold: RunFold) -> tuple[str, ...]:
    """The accounts that have something to do now: a step to begin where that may be, or one to finish in any case."""
    now = hands.clock.now()
    begins = not fold.halted and is_open(run.options.windows, now)
    begun = set(_accounts_to_do(run, fold, begun=True))
    found = []
    for account in _accounts_to_do(run, fold, begun=not begins):
        again = _again_at(fold, account)
        if account in begun and fold.stumbles.get(account, (0, now))[0] == 1:
            found.append(account)  # a write may be in doubt: that is looked at at once, the first time
            continue
        # A time that has not come yet by far was written by a clock that was wrong.
        if account not in fold.stumbles or (again is not None and not now < again <= now + _LONGEST):
            found.append(account)
    return tuple(found)


def wait_for_another_try(hands: Hands, run: Run, fold: RunFold) -> datetime | None:
    """When an account whose carrying was cut off is tried again."""
    now = hands.clock.now()
    tries = [_again_at(fold, account) for account in _accounts_to_do(run, fold, begun=fold.halted)]
    return min((at for at in tries if at is not None and at > now), default=None)


def _accounts_to_do(run: Run, fold: RunFold, *, begun: bool = False) -> list[str]:
    """The accounts with steps of the waves so far that are not through; with `begun`, of those that have begun."""
    steps = _of_waves(run, fold, range(1, fold.wave + 1))
    return sorted({key[0] for key, facts in steps if (_begun(facts) if begun else _to_do(facts))})


def _again_at(fold: RunFold, account: str) -> datetime | None:
    """When carrying an account is tried again that was cut off; None where it was not, or too often."""
    tries, last = fold.stumbles.get(account, (0, None))
    return None if last is None or tries > _TRIES else last + _SOON * 2 ** (tries - 1)


def _of_waves(run: Run, fold: RunFold, numbers: range) -> Iterator[tuple[KeyId, KeyFacts]]:
    waves = run.wave_of()
    for step in run.plan.deactivations:
        if waves[step.account, step.user] in numbers:
            key = (step.account, step.user, step.key)
            yield key, fold.facts.get(key, KeyFacts())


def _to_do(facts: KeyFacts) -> bool:
    """True where a step is to be begun or finished; what comes back is the supervision's own work."""
    return facts.coming_back is None and (facts.pending or facts.state == "confirmed")


def _begun(facts: KeyFacts) -> bool:
    return (
        facts.coming_back is None
        and (facts.intent is not None or facts.state == "confirmed")
        and _to_do(facts)
    )


def next_step(hands: Hands, run: Run, fold: RunFold) -> WaveStarted | Stopped | datetime | None:
    """What the rule between waves comes to: the next wave goes, none does, or when to ask; None for "nothing"."""
    more = any(True for _ in _of_waves(run, fold, range(fold.wave + 1, len(run.plan.steps) + 2)))
    if fold.halted or not more:
        return None
    this = list(_of_waves(run, fold, range(fold.wave, fold.wave + 1)))
    if any(facts.pending or facts.state == "confirmed" for _, facts in this):
        return None
    for key, facts in this:
        if _speaks_against(facts, fold):
            why = f"wave {fold.wave}: {key[2]} of user {key[1]} is {facts.state}"
            return Stopped("the rule between waves", why)
    ready = _ready_at(run, [facts for _, facts in this], hands.clock.now())
    return WaveStarted(fold.wave + 1) if ready is not None and ready <= hands.clock.now() else ready


def _speaks_against(facts: KeyFacts, fold: RunFold) -> bool:
    """What must stop the waves, unless a person has resumed the run since."""
    watched_in_part = facts.state == "unwatched" and facts.watch is not None
    bad = watched_in_part or facts.state in ("rolled_back", "rollback_failed", "failed")
    resumed = fold.resumed_at
    return bad and not (resumed and facts.changed_at and facts.changed_at < resumed)


def _ready_at(run: Run, facts: list[KeyFacts], now: datetime) -> datetime | None:
    """When the rule lets the next wave go, as far as can be said; None where steps must settle first."""
    under_watch = [known for known in facts if known.state == "watching"]
    if run.options.green_for is None and under_watch:
        return None
    confirmed = [min(known.confirmed_at, now) for known in facts if known.confirmed_at]
    wait = timedelta(seconds=run.options.green_for or 0)
    return max(confirmed, default=run.opened) + (wait if under_watch else timedelta(0))


def wait_for_window(hands: Hands, run: Run, fold: RunFold) -> datetime | None:
    """When the next change window opens, where a step that has not begun waits for it."""
    now = hands.clock.now()
    if fold.halted or is_open(run.options.windows, now) or not _accounts_to_do(run, fold):
        return None
    return next_opening(run.options.windows, now)
