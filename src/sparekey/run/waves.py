"""Which users go now: waves with a rule between them, change windows; none of it binds the way back."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sparekey.run.entries import Stopped, WaveStarted
from sparekey.run.record import KeyFacts, KeyId, Run, RunFold
from sparekey.run.turn import Hands
from sparekey.run.windows import is_open, next_opening, opened_at


def accounts_now(hands: Hands, run: Run, fold: RunFold) -> tuple[tuple[str, ...], str]:
    """The accounts that have something to do now, and a name for just this piece of work."""
    opening = opened_at(run.options.windows, hands.clock.now())
    if fold.halted or opening is None:
        return (), ""
    accounts = {key[0] for key, facts in _of_waves(run, fold, range(1, fold.wave + 1)) if _to_do(facts)}
    return tuple(sorted(accounts)), f"{fold.attempt}.{fold.wave}.{opening}"


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
