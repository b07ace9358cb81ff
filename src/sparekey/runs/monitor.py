"""The days after: which probe is due, which keys come back, what the watch came to. Decides; `supervisor.py` acts.

Nothing here is remembered from one look to the next: all is found in the run's entries and in the latest
observation of each probe. A time that lies in the future was written by a clock that was wrong, so it counts as due.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sparekey.ledger.events import Because, Unobserved, Verdict, Watching
from sparekey.ledger.store import Observation
from sparekey.runs.context import Hands
from sparekey.runs.probe_checks import tolerance
from sparekey.runs.projection import KeyFacts, KeyId, Run, RunFold, UserId, short
from sparekey.runs.steps import never_reactivates

# How often the watched users' keys are listed and the last use of those that stay is read.
LOOK_EVERY = timedelta(hours=6)
LOOK = "(listing)"
# How soon an unhealthy probe is asked again at the latest.
_SOON = timedelta(seconds=30)
# A reactivation that failed is tried again after 5, 10, 20 … 50 seconds, and after an hour of that every 5 minutes.
_FIRST_WAIT, _LONGEST_WAIT, _LATER_WAIT, _MANY_TRIES = 5.0, 50.0, 300.0, 75
# A reactivation that has not ended is somebody's at work, unless the run has been silent for so long.
_ORPHANED = timedelta(seconds=15)
Seen = Mapping[str, Observation]


def watched(fold: RunFold) -> dict[KeyId, Watching]:
    """The keys whose probes are to be asked."""
    return {
        key: facts.watch
        for key, facts in sorted(fold.facts.items())
        if facts.state in ("watching", "rollback_failed") and facts.watch is not None
    }


def _by_probe(keys: Mapping[KeyId, Watching]) -> dict[str, list[Watching]]:
    found: dict[str, list[Watching]] = {}
    for watch in keys.values():
        for name in watch.probes:
            found.setdefault(name, []).append(watch)
    return found


def probes_due(hands: Hands, run: Run, fold: RunFold, seen: Seen, now: datetime) -> dict[str, datetime]:
    """Every probe of a watched key, and when it is to be asked next."""
    found = {}
    for name, watches in sorted(_by_probe(watched(fold)).items()):
        known = seen.get(name)
        cadence = hands.probes.cadence(run.policy, name)
        if known is None or known.asked > now or any(known.asked < watch.until <= now for watch in watches):
            found[name] = now
        else:
            # One that is unhealthy, or did not answer at the end of the watch, is asked again soon.
            soon = known.green is False or any(known.seen < watch.until <= now for watch in watches)
            found[name] = known.asked + (min(cadence, _SOON) if soon else cadence)
    return found


def gap(hands: Hands, run: Run, fold: RunFold, name: str, known: Observation | None) -> Unobserved | None:
    """The time that nobody observed a probe, up to now, where that is too long and not on record yet."""
    now = hands.clock.now()
    since = min((watch.since for watch in _by_probe(watched(fold)).get(name, ())), default=now)
    allowed = tolerance(hands.probes.cadence(run.policy, name))
    if known is not None and known.seen <= now:
        since = max(since, known.seen)
    elif known is not None and known.seen - now <= allowed:
        return None  # clocks of two machines may differ a little
    told = any((found.probe, found.since) == (name, since) for found in fold.unobserved)
    ahead = known is not None and known.seen > now
    return Unobserved(name, since, now) if (ahead or now - since > allowed) and not told else None


def returns(
    hands: Hands, fold: RunFold, unhealthy: Mapping[str, str]
) -> tuple[dict[KeyId, tuple[Because, str]], datetime | None]:
    """The keys that must be reactivated now and why, and when the next one must be."""
    now = hands.clock.now()
    found: dict[KeyId, tuple[Because, str]] = {}
    later: list[datetime] = []
    for key, facts in sorted(fold.facts.items()):
        why, due = _return(fold, facts, unhealthy, now)
        if why is not None and due <= now:
            found[key] = why
        elif why is not None:
            later.append(due)
    return found, min(later, default=None)


def _return(
    fold: RunFold, facts: KeyFacts, unhealthy: Mapping[str, str], now: datetime
) -> tuple[tuple[Because, str] | None, datetime]:
    """Why a key must come back, None where it need not, and when it must."""
    due = now
    if facts.tries and facts.changed_at is not None and facts.changed_at <= now:
        due = facts.changed_at + wait_after(facts.tries)
    back = facts.coming_back
    if back is not None and facts.retry:
        return (back.because, back.why), due
    if back is not None and facts.state == "reactivating":
        return (back.because, back.why), _silent_since(fold, now)
    if facts.watch is not None and facts.state in ("watching", "rollback_failed"):
        red = {name: unhealthy[name] for name in facts.watch.probes if name in unhealthy}
        if red and facts.not_reactivated != "rollback":
            why = "; ".join(f"probe {name} turned red: {output}" for name, output in red.items())
            return ("rollback", why), due
    if fold.undoing and facts.ours and facts.state != "failed" and not facts.not_reactivated:
        return ("undo", "asked"), _silent_since(fold, now)
    return None, due


def wait_after(tries: int) -> timedelta:
    """How long after so many failures in a row it is tried again."""
    wait = _LATER_WAIT if tries > _MANY_TRIES else min(_FIRST_WAIT * 2.0 ** min(tries - 1, 10), _LONGEST_WAIT)
    return timedelta(seconds=wait)


def _silent_since(fold: RunFold, now: datetime) -> datetime:
    last = fold.last_at
    return now if last is None or last > now else last + _ORPHANED


def look_due(run: Run, seen: Seen, now: datetime) -> datetime:
    """When the watched users' keys are listed next."""
    known = seen.get(LOOK)
    since = known.asked if known else run.opened
    return now if since > now else since + LOOK_EVERY


def users_of(keys: Mapping[KeyId, Watching]) -> dict[UserId, list[KeyId]]:
    """Watched keys by their user."""
    found: dict[UserId, list[KeyId]] = {}
    for key in keys:
        found.setdefault(key[:2], []).append(key)
    return found


def verdicts(hands: Hands, run: Run, fold: RunFold, seen: Seen) -> dict[KeyId, Verdict]:
    """What the watch came to, where it is over."""
    found = {}
    for key, facts in sorted(fold.facts.items()):
        watch = facts.watch
        if facts.state == "watching" and watch is not None and hands.clock.now() >= watch.until:
            gaps = [gap for gap in fold.unobserved if _concerns(gap, watch)]
            said = _verdict(key, watch, gaps, seen) or _unhealthy(run, key, watch, seen)
            if said is not None:
                found[key] = said
    return found


def _verdict(key: KeyId, watch: Watching, gaps: list[Unobserved], seen: Seen) -> Verdict | None:
    """Settled only where every probe was green to the end; None while one may still be asked."""
    # Red to the end: a rollback has not succeeded yet, and goes on.
    if any(name in seen and seen[name].green is False for name in watch.probes):
        return None
    if gaps:
        when = f"from {short(gaps[0].since)} to {short(gaps[0].until)}"
        return Verdict(*key, "unwatched", f"probe {gaps[0].probe} was not asked {when}")
    unsettled = [name for name in watch.probes if name not in seen or seen[name].seen < watch.until]
    if not unsettled:
        return Verdict(*key, "settled", f"{', '.join(watch.probes)} stayed green")
    # It is asked again until it answers, or until its silence counts as a gap.
    return None


def _unhealthy(run: Run, key: KeyId, watch: Watching, seen: Seen) -> Verdict | None:
    """The end for a key whose probe is unhealthy to the end, where only a person may reactivate it."""
    red = [name for name in watch.probes if name in seen and seen[name].green is False]
    barred = red and all(name in seen and seen[name].seen >= watch.until for name in watch.probes)
    if not barred or not (why := never_reactivates(run, key[:2], key[2])):
        return None
    return Verdict(
        *key, "unwatched", f"probe {red[0]} is unhealthy, and only a person may reactivate it ({why})"
    )


def _concerns(gap: Unobserved, watch: Watching) -> bool:
    return gap.probe in watch.probes and gap.until > watch.since and gap.since < watch.until
