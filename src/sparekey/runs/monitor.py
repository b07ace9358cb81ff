"""The days after: which probe is due, which keys come back, what the watch came to. Decides; `supervisor.py` acts.

Nothing here is remembered from one look to the next: all is found in the run's entries and in the latest
observation of each probe. A time that lies in the future was written by a clock that was wrong, so it counts as due.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sparekey.formatting import moment_with_seconds
from sparekey.ledger.events import ProbeUnobserved, WatchEnded, WatchStarted, WriteReason
from sparekey.ledger.records import ProbeObservation
from sparekey.runs.context import RunContext
from sparekey.runs.key_facts import KeyFacts, KeyId, UserId
from sparekey.runs.probe_checks import tolerance
from sparekey.runs.projection import RunProjection
from sparekey.runs.reactivate import never_reactivates
from sparekey.runs.run_header import RunHeader

# How often the watched users' keys are listed and the last use of the kept ones is read.
CHECK_EVERY = timedelta(hours=6)
CHECK_TASK = "(listing)"
# How soon an unhealthy probe is asked again at the latest.
_FIRST_CHECK_AFTER = timedelta(seconds=30)
# A reactivation that failed is tried again after 5, 10, 20 … 50 seconds, and after an hour of that every 5 minutes.
_FIRST_WAIT, _LONGEST_WAIT, _LATER_WAIT, _MANY_TRIES = 5.0, 50.0, 300.0, 75
# A reactivation that has not ended is somebody's at work, unless the run has been silent for so long.
_ORPHANED_PROBE = timedelta(seconds=15)
LastProbes = Mapping[str, ProbeObservation]


def watched_keys(projection: RunProjection) -> dict[KeyId, WatchStarted]:
    """The keys whose probes are to be asked."""
    return {
        key: facts.watch
        for key, facts in sorted(projection.facts.items())
        if facts.state in ("watching", "rollback_failed") and facts.watch is not None
    }


def _by_probe(keys: Mapping[KeyId, WatchStarted]) -> dict[str, list[WatchStarted]]:
    watches: dict[str, list[WatchStarted]] = {}
    for watch in keys.values():
        for name in watch.probes:
            watches.setdefault(name, []).append(watch)
    return watches


def probes_due(
    context: RunContext, run: RunHeader, projection: RunProjection, seen: LastProbes, now: datetime
) -> dict[str, datetime]:
    """Every probe of a watched key, and when it is to be asked next."""
    due = {}
    for name, watches in sorted(_by_probe(watched_keys(projection)).items()):
        known = seen.get(name)
        cadence = context.probes.interval(run.policy, name)
        if known is None or known.asked > now or any(known.asked < watch.until <= now for watch in watches):
            due[name] = now
        else:
            # One that is unhealthy, or did not answer at the end of the watch, is asked again soon.
            soon = known.healthy is False or any(known.seen < watch.until <= now for watch in watches)
            due[name] = known.asked + (min(cadence, _FIRST_CHECK_AFTER) if soon else cadence)
    return due


def observation_gap(
    context: RunContext, run: RunHeader, projection: RunProjection, name: str, known: ProbeObservation | None
) -> ProbeUnobserved | None:
    """The time that nobody observed a probe, up to now, where that is too long and not on record yet."""
    now = context.clock.now()
    since = min((watch.since for watch in _by_probe(watched_keys(projection)).get(name, ())), default=now)
    allowed = tolerance(context.probes.interval(run.policy, name))
    if known is not None and known.seen <= now:
        since = max(since, known.seen)
    elif known is not None and known.seen - now <= allowed:
        return None  # clocks of two machines may differ a little
    is_recorded = any((gap_.probe, gap_.since) == (name, since) for gap_ in projection.unobserved)
    ahead = known is not None and known.seen > now
    return ProbeUnobserved(name, since, now) if (ahead or now - since > allowed) and not is_recorded else None


def keys_to_roll_back(
    context: RunContext, projection: RunProjection, unhealthy: Mapping[str, str]
) -> tuple[dict[KeyId, tuple[WriteReason, str]], datetime | None]:
    """The keys that must be reactivated now and why, and when the next one must be."""
    now = context.clock.now()
    reasons: dict[KeyId, tuple[WriteReason, str]] = {}
    later: list[datetime] = []
    for key, facts in sorted(projection.facts.items()):
        why, due = _rollback_reason(projection, facts, unhealthy, now)
        if why is not None and due <= now:
            reasons[key] = why
        elif why is not None:
            later.append(due)
    return reasons, min(later, default=None)


def _rollback_reason(
    projection: RunProjection, facts: KeyFacts, unhealthy: Mapping[str, str], now: datetime
) -> tuple[tuple[WriteReason, str] | None, datetime]:
    """Why a key must come back, None where it need not, and when it must."""
    due = now
    if facts.reactivation_tries and facts.changed_at is not None and facts.changed_at <= now:
        due = facts.changed_at + wait_after(facts.reactivation_tries)
    back = facts.pending_reactivation
    if back is not None and facts.retry:
        return (back.because, back.why), due
    if back is not None and facts.state == "reactivating":
        return (back.because, back.why), _unobserved_since(projection, now)
    if facts.watch is not None and facts.state in ("watching", "rollback_failed"):
        red = {name: unhealthy[name] for name in facts.watch.probes if name in unhealthy}
        if red and facts.not_reactivated != "rollback":
            why = "; ".join(f"probe {name} became unhealthy: {output}" for name, output in red.items())
            return ("rollback", why), due
    if (
        projection.undoing
        and facts.deactivated_by_run
        and facts.state != "failed"
        and not facts.not_reactivated
    ):
        return ("undo", "asked"), _unobserved_since(projection, now)
    return None, due


def wait_after(tries: int) -> timedelta:
    """How long after so many failures in a row it is tried again."""
    wait = _LATER_WAIT if tries > _MANY_TRIES else min(_FIRST_WAIT * 2.0 ** min(tries - 1, 10), _LONGEST_WAIT)
    return timedelta(seconds=wait)


def _unobserved_since(projection: RunProjection, now: datetime) -> datetime:
    last = projection.last_at
    return now if last is None or last > now else last + _ORPHANED_PROBE


def check_due(run: RunHeader, seen: LastProbes, now: datetime) -> datetime:
    """When the watched users' keys are listed next."""
    known = seen.get(CHECK_TASK)
    since = known.asked if known else run.opened
    return now if since > now else since + CHECK_EVERY


def users_of(keys: Mapping[KeyId, WatchStarted]) -> dict[UserId, list[KeyId]]:
    """Watched keys by their user."""
    users: dict[UserId, list[KeyId]] = {}
    for key in keys:
        users.setdefault(key[:2], []).append(key)
    return users


def watches_ended(
    context: RunContext, run: RunHeader, projection: RunProjection, seen: LastProbes
) -> dict[KeyId, WatchEnded]:
    """What the watch came to, where it is over."""
    events = {}
    for key, facts in sorted(projection.facts.items()):
        watch = facts.watch
        if facts.state == "watching" and watch is not None and context.clock.now() >= watch.until:
            gaps = [gap for gap in projection.unobserved if _affects(gap, watch)]
            ending = _watch_end(key, watch, gaps, seen) or _unhealthy(run, key, watch, seen)
            if ending is not None:
                events[key] = ending
    return events


def _watch_end(
    key: KeyId, watch: WatchStarted, gaps: list[ProbeUnobserved], seen: LastProbes
) -> WatchEnded | None:
    """Settled only where every probe was healthy to the end; None while one may still be checked."""
    # Unhealthy to the end: a rollback has not succeeded yet, and is retried.
    if any(name in seen and seen[name].healthy is False for name in watch.probes):
        return None
    if gaps:
        when = f"from {moment_with_seconds(gaps[0].since)} to {moment_with_seconds(gaps[0].until)}"
        return WatchEnded(*key, "unwatched", f"probe {gaps[0].probe} was not asked {when}")
    unsettled = [name for name in watch.probes if name not in seen or seen[name].seen < watch.until]
    if not unsettled:
        return WatchEnded(*key, "settled", f"{', '.join(watch.probes)} healthy to the end")
    # It is asked again until it answers, or until its silence counts as a gap.
    return None


def _unhealthy(run: RunHeader, key: KeyId, watch: WatchStarted, seen: LastProbes) -> WatchEnded | None:
    """The end for a key whose probe is unhealthy to the end, where only a person may reactivate it."""
    red = [name for name in watch.probes if name in seen and seen[name].healthy is False]
    forbidden = red and all(name in seen and seen[name].seen >= watch.until for name in watch.probes)
    if not forbidden or not (why := never_reactivates(run, key[:2], key[2])):
        return None
    return WatchEnded(
        *key, "unwatched", f"probe {red[0]} is unhealthy, and only a person may reactivate it ({why})"
    )


def _affects(gap: ProbeUnobserved, watch: WatchStarted) -> bool:
    return gap.probe in watch.probes and gap.until > watch.since and gap.since < watch.until
