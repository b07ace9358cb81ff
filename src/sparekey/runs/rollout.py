"""Which users are next: waves with a rule between them, change windows; none of it binds a reactivation."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sparekey.ledger.events import RunStopped, WaveStarted
from sparekey.runs.change_windows import is_open, next_opening
from sparekey.runs.context import RunContext
from sparekey.runs.key_facts import KeyFacts, KeyId
from sparekey.runs.projection import RunProjection
from sparekey.runs.run_header import RunHeader

# How soon an account whose carrying was cut off is tried again, twice as late each time, and how often.
_SOON, _TRIES, _LONGEST = timedelta(minutes=1), 6, timedelta(minutes=32)


def accounts_to_enqueue(context: RunContext, run: RunHeader, projection: RunProjection) -> tuple[str, ...]:
    """The accounts that have something to do now: a step to begin where that may be, or one to finish in any case."""
    now = context.clock.now()
    begins = not projection.is_stopped and is_open(run.options.windows, now)
    begun = set(_accounts_with_work(run, projection, now, begun=True))
    accounts = []
    for account in _accounts_with_work(run, projection, now, begun=not begins):
        again = _retry_at(projection, account)
        if account in begun and projection.worker_failures.get(account, (0, now))[0] == 1:
            accounts.append(account)  # a write may be in doubt: that is looked at at once, the first time
            continue
        # A time that has not come yet by far was written by a clock that was wrong.
        if account not in projection.worker_failures or (
            again is not None and not now < again <= now + _LONGEST
        ):
            accounts.append(account)
    return tuple(accounts)


def wait_for_retry(context: RunContext, run: RunHeader, projection: RunProjection) -> datetime | None:
    """When an account whose execution was cut off is retried."""
    now = context.clock.now()
    tries = [
        _retry_at(projection, account)
        for account in _accounts_with_work(run, projection, now, begun=projection.is_stopped)
    ]
    return min((at for at in tries if at is not None and at > now), default=None)


def _accounts_with_work(
    run: RunHeader, projection: RunProjection, now: datetime, *, begun: bool = False
) -> list[str]:
    """The accounts with steps of the waves so far that are not through; with `begun`, of those that have started."""
    every = run.policy.usage_every
    steps = _users_in_waves(run, projection, range(1, projection.wave + 1))
    return sorted(
        {
            key[0]
            for key, facts in steps
            if (projection.undoing and _is_to_be_reverted(facts))
            or (
                _is_started(facts)
                if begun
                else _is_outstanding(facts) or _is_move_check_due(facts, now, every)
            )
        }
    )


def _retry_at(projection: RunProjection, account: str) -> datetime | None:
    """When an account that was cut off is retried; None where it was not, or too often."""
    tries, last = projection.worker_failures.get(account, (0, None))
    return None if last is None or tries > _TRIES else last + _SOON * 2 ** (tries - 1)


def _users_in_waves(
    run: RunHeader, projection: RunProjection, numbers: range
) -> Iterator[tuple[KeyId, KeyFacts]]:
    waves = run.wave_of()
    for step in run.plan.writes:
        if waves[step.account, step.user] in numbers:
            key = (step.account, step.user, step.key)
            yield key, projection.facts.get(key, KeyFacts())


def _is_outstanding(facts: KeyFacts) -> bool:
    """True where a step is to be started or finished; reactivations are the supervision's own work."""
    return facts.pending_reactivation is None and (facts.pending or facts.state == "confirmed")


def _is_to_be_reverted(facts: KeyFacts) -> bool:
    """True where a run that is undone has a handover to revert."""
    rotates = facts.rotation is not None and facts.rotation.under_way
    return rotates and (facts.retry or facts.state != "failed")


def _is_move_check_due(facts: KeyFacts, now: datetime, every: timedelta) -> bool:
    """True where it is time to see whether a key's consumers have moved; a time far ahead is a wrong clock's."""
    due = facts.rotation.next_check if facts.rotation is not None else None
    return due is not None and facts.state in ("moving", "stalled") and not now < due <= now + every


def next_move_check(context: RunContext, run: RunHeader, projection: RunProjection) -> datetime | None:
    """When the consumers of a rotated key are looked at next; None where no rotation waits for any."""
    now = context.clock.now()
    if projection.is_stopped:
        return None
    dues = [
        facts.rotation.next_check
        for facts in projection.facts.values()
        if facts.rotation is not None and facts.state in ("moving", "stalled")
    ]
    later = [due for due in dues if due is not None and due > now]
    return min((min(due, now + run.policy.usage_every) for due in later), default=None)


def _is_started(facts: KeyFacts) -> bool:
    if facts.rotation is not None and facts.rotation.stage in ("creating", "orphaned", "reverting"):
        return facts.pending
    return (
        facts.pending_reactivation is None
        and (facts.intent is not None or facts.state == "confirmed")
        and _is_outstanding(facts)
    )


def next_wave(
    context: RunContext, run: RunHeader, projection: RunProjection
) -> WaveStarted | RunStopped | datetime | None:
    """The verdict of the rule between waves: the next wave starts, none does, or when to ask; None for "nothing"."""
    more = any(
        True for _ in _users_in_waves(run, projection, range(projection.wave + 1, len(run.plan.steps) + 2))
    )
    if projection.is_stopped or not more:
        return None
    this = list(_users_in_waves(run, projection, range(projection.wave, projection.wave + 1)))
    if any(_is_unfinished(facts) for _, facts in this):
        return None
    for key, facts in this:
        if _reason_against(facts, projection):
            why = f"wave {projection.wave}: {key[2]} of user {key[1]} is {facts.state}"
            return RunStopped("the rule between waves", why)
    ready = _ready_at(run, [facts for _, facts in this], context.clock.now())
    return WaveStarted(projection.wave + 1) if ready is not None and ready <= context.clock.now() else ready


def _is_unfinished(facts: KeyFacts) -> bool:
    """True where a wave is not through: a rotation is with its old key deactivated."""
    rotates = facts.rotation is not None and facts.rotation.under_way and facts.state != "failed"
    return facts.pending or facts.state == "confirmed" or rotates


def _reason_against(facts: KeyFacts, projection: RunProjection) -> bool:
    """What must stop the waves, unless a person has resumed the run since."""
    watched_in_part = facts.state == "unwatched" and facts.watch is not None
    bad = watched_in_part or facts.state in ("rolled_back", "rollback_failed", "failed")
    resumed = projection.resumed_at
    return bad and not (resumed and facts.changed_at and facts.changed_at < resumed)


def _ready_at(run: RunHeader, facts: list[KeyFacts], now: datetime) -> datetime | None:
    """When the rule lets the next wave start, as far as is known; None where steps must settle first."""
    under_watch = [known for known in facts if known.state == "watching"]
    if run.options.healthy_for is None and under_watch:
        return None
    confirmed = [min(known.confirmed_at, now) for known in facts if known.confirmed_at]
    wait = timedelta(seconds=run.options.healthy_for or 0)
    return max(confirmed, default=run.opened) + (wait if under_watch else timedelta(0))


def wait_for_window(context: RunContext, run: RunHeader, projection: RunProjection) -> datetime | None:
    """When the next change window opens, where a step that has not started waits for it."""
    now = context.clock.now()
    if projection.is_stopped or is_open(run.options.windows, now):
        return None
    if not _accounts_with_work(run, projection, now):
        return None
    return next_opening(run.options.windows, now)
