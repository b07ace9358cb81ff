"""Which users go now: waves with a rule between them, change windows; none of it binds the way back."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sparekey.run.entries import Stopped, WaveStarted
from sparekey.run.record import KeyFacts, KeyId, Run, RunFold
from sparekey.run.turn import Hands
from sparekey.run.windows import is_open, next_opening, opened_at

# How soon an account whose carrying was cut off is tried again, twice as late each time, and how often.
_SOON, _TRIES = timedelta(minutes=1), 6


def accounts_now(hands: Hands, run: Run, fold: RunFold) -> tuple[tuple[str, str], ...]:
    """The accounts that have something to do now, each with a name for just this piece of work."""
    now = hands.clock.now()
    opening = opened_at(run.options.windows, now)
    if fold.halted or opening is None:
        return ()
    name = f"{fold.attempt}.{fold.wave}.{opening}"
    found = []
    for account in _accounts_to_do(run, fold):
        tries, _ = fold.stumbles.get(account, (0, now))
        again = _again_at(fold, account)
        if tries == 0 or (again is not None and again <= now):
            found.append((account, f"{name}.{tries}" if tries else name))
    return tuple(found)


def wait_for_another_try(hands: Hands, run: Run, fold: RunFold) -> datetime | None:
    """When an account whose carrying was cut off is tried again."""
    if fold.halted:
        return None
    tries = [_again_at(fold, account) for account in _accounts_to_do(run, fold)]
    return min((at for at in tries if at is not None and at > hands.clock.now()), default=None)


def _accounts_to_do(run: Run, fold: RunFold) -> list[str]:
    return sorted({key[0] for key, facts in _of_waves(run, fold, range(1, fold.wave + 1)) if _to_do(facts)})


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
    return facts.pending or facts.state in ("confirmed", "failed")


def start_next(hands: Hands, run: Run, fold: RunFold) -> datetime | None:
    """Let the next wave go where the rule allows it; returns when to ask again, None for "when told to"."""
    now = hands.clock.now()
    more = any(True for _ in _of_waves(run, fold, range(fold.wave + 1, len(run.plan.steps) + 2)))
    if fold.halted or not more:
        return None
    this = [facts for _, facts in _of_waves(run, fold, range(fold.wave, fold.wave + 1))]
    if any(facts.pending or facts.state == "confirmed" for facts in this):
        return None
    for key, facts in _of_waves(run, fold, range(fold.wave, fold.wave + 1)):
        if _speaks_against(facts, fold):
            why = f"wave {fold.wave}: {key[2]} of user {key[1]} is {facts.state}"
            hands.note(run.id, Stopped("the rule between waves", why))
            return None
    ready = _ready_at(run, this)
    if ready is None or ready > now:
        return ready
    hands.note(run.id, WaveStarted(fold.wave + 1))
    return None


def _speaks_against(facts: KeyFacts, fold: RunFold) -> bool:
    """What must stop the waves, unless a person has resumed the run since."""
    watched_in_part = facts.state == "unwatched" and facts.watch is not None
    bad = watched_in_part or facts.state in ("rolled_back", "failed")
    resumed = fold.resumed_at
    return bad and not (resumed and facts.changed_at and facts.changed_at < resumed)


def _ready_at(run: Run, facts: list[KeyFacts]) -> datetime | None:
    """When the rule lets the next wave go, as far as can be said; None where steps must settle first."""
    under_watch = [known for known in facts if known.state == "watching"]
    if run.options.green_for is None and under_watch:
        return None
    confirmed = [known.confirmed_at for known in facts if known.confirmed_at]
    wait = timedelta(seconds=run.options.green_for or 0)
    return max(confirmed, default=run.opened) + (wait if under_watch else timedelta(0))


def wait_for_window(hands: Hands, run: Run, fold: RunFold) -> datetime | None:
    """When the next change window opens, where something waits for it."""
    now = hands.clock.now()
    waiting = any(_to_do(facts) for _, facts in _of_waves(run, fold, range(1, fold.wave + 1)))
    if fold.halted or not waiting or is_open(run.options.windows, now):
        return None
    return next_opening(run.options.windows, now)
