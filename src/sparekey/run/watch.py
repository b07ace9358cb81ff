"""The days after: probes are asked, a red one brings keys back, unobserved time is never settled."""

from datetime import datetime, timedelta

from sparekey.ledger import Observation
from sparekey.run.asking import ask, tolerance
from sparekey.run.drive import drive
from sparekey.run.entries import Stopped, Unobserved, Verdict, Watching
from sparekey.run.record import KeyId, Run, RunFold, UserId, catch_up, short
from sparekey.run.steps import look_at, never_reactivates, reactivate
from sparekey.run.turn import Hands, Turn

# How often the watched users' keys are listed and the last use of those that stay is read.
LOOK_EVERY = timedelta(hours=6)
_LOOK = "(listing)"
# How soon a reactivation that did not succeed is tried again.
_SOON = timedelta(minutes=1)


def look_after(hands: Hands, run: Run, fold: RunFold) -> None:
    """One round of the watch over all that is watched."""
    if not _watched(fold):
        return
    red = _ask_due(hands, run, fold)
    if red:
        roll_back(hands, run, reload(hands, fold), red)
    _look_at_users(hands, run, _watched(reload(hands, fold)))
    _judge(hands, run, reload(hands, fold))


def reload(hands: Hands, fold: RunFold) -> RunFold:
    """The fold with the entries that came since."""
    return catch_up(hands.ledger, fold.run, fold)


def _watched(fold: RunFold) -> dict[KeyId, Watching]:
    return {
        key: facts.watch
        for key, facts in sorted(fold.facts.items())
        if facts.state == "watching" and facts.watch is not None
    }


def _names(watched: dict[KeyId, Watching]) -> dict[str, list[Watching]]:
    found: dict[str, list[Watching]] = {}
    for watch in watched.values():
        for name in watch.probes:
            found.setdefault(name, []).append(watch)
    return found


def _told(fold: RunFold, name: str, since: datetime) -> bool:
    return any((gap.probe, gap.since) == (name, since) for gap in fold.unobserved)


def _ask_due(hands: Hands, run: Run, fold: RunFold) -> dict[str, str]:
    """Ask every probe whose time has come; returns the red ones and what they said."""
    red: dict[str, str] = {}
    seen = hands.ledger.observations(run.id)
    for name, watches in sorted(_names(_watched(fold)).items()):
        now = hands.clock.now()
        known = seen.get(name)
        cadence = hands.probes.cadence(run.policy, name)
        since = min(watch.since for watch in watches)
        if known is not None:
            since = max(since, known.seen)
            ended = any(known.seen < watch.until <= now for watch in watches)
            if now < known.asked + cadence and not ended and known.green is not False:
                continue
        asked = ask(hands, run, name)
        if now - since > tolerance(cadence) and not _told(fold, name, since):
            hands.note(run.id, Unobserved(name, since, now))
        if asked.green is False:
            red[name] = asked.output
    return red


def roll_back(hands: Hands, run: Run, fold: RunFold, red: dict[str, str]) -> None:
    """Stop the waves and reactivate every watched key that a red probe speaks for."""
    if not fold.halted:
        name, output = min(red.items())
        hands.note(run.id, Stopped(f"probe {name}", output))
    drive(
        (
            reactivate(hands, run, key[:2], key[2], "rollback", _because(watch, red))
            for key, watch in _watched(fold).items()
            if set(watch.probes) & set(red)
        ),
        hands.clock,
        at_once=hands.calls,
    )


def _because(watch: Watching, red: dict[str, str]) -> str:
    return "; ".join(f"probe {name} turned red: {red[name]}" for name in watch.probes if name in red)


def _look_at_users(hands: Hands, run: Run, watched: dict[KeyId, Watching]) -> None:
    """List the watched users' keys now and then: repair, see foreign changes, see the kept key at work."""
    now = hands.clock.now()
    known = hands.ledger.observations(run.id).get(_LOOK)
    since = known.asked if known else run.opened
    if now < since + LOOK_EVERY:
        return
    hands.ledger.observe(run.id, _LOOK, Observation(now, now, green=True))
    steps = {(step.account, step.user, step.key): step for step in run.plan.deactivations}
    users: dict[UserId, list[KeyId]] = {}
    for key in watched:
        users.setdefault(key[:2], []).append(key)
    drive(
        (
            look_at(hands, run, user, tuple((steps[key], watched[key].since) for key in keys))
            for user, keys in users.items()
        ),
        hands.clock,
        at_once=hands.calls,
    )


def _judge(hands: Hands, run: Run, fold: RunFold) -> None:
    """Say what the watch came to, where it is over."""
    seen = hands.ledger.observations(run.id)
    for key, watch in _watched(fold).items():
        if hands.clock.now() >= watch.until:
            gaps = [gap for gap in fold.unobserved if _concerns(gap, watch)]
            said = _verdict(key, watch, gaps, seen) or _unhealthy(run, key, watch, seen)
            if said is not None:
                Turn(hands, run, key[:2]).say_last(said)


def _verdict(
    key: KeyId, watch: Watching, gaps: list[Unobserved], seen: dict[str, Observation]
) -> Verdict | None:
    """Settled only where every probe was green to the end; None while one may still be asked."""
    if gaps:
        when = f"from {short(gaps[0].since)} to {short(gaps[0].until)}"
        return Verdict(*key, "unwatched", f"probe {gaps[0].probe} was not asked {when}")
    unsettled = [name for name in watch.probes if name not in seen or seen[name].seen < watch.until]
    # Red to the end: a rollback has not succeeded yet, and goes on.
    unsettled += [name for name in watch.probes if name in seen and seen[name].green is False]
    if not unsettled:
        return Verdict(*key, "settled", f"{', '.join(watch.probes)} stayed green")
    # It is asked again until it answers, or until its silence counts as a gap.
    return None


def _unhealthy(run: Run, key: KeyId, watch: Watching, seen: dict[str, Observation]) -> Verdict | None:
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


def next_due(hands: Hands, run: Run, fold: RunFold) -> datetime | None:
    """When the watch must be looked after again; the same answer whoever asks."""
    coming = [
        facts.changed_at + _SOON
        for facts in fold.facts.values()
        if facts.coming_back is not None and facts.retry and facts.changed_at is not None
    ]
    watched = _watched(fold)
    if not watched:
        return min(coming, default=None)
    now = hands.clock.now()
    seen = hands.ledger.observations(run.id)
    times = [watch.until for watch in watched.values() if watch.until > now]
    for name in _names(watched):
        known = seen.get(name)
        cadence = hands.probes.cadence(run.policy, name)
        red = known is not None and known.green is False
        times.append((known.asked if known else run.opened) + (min(cadence, _SOON) if red else cadence))
    look = seen.get(_LOOK)
    times.append((look.asked if look else run.opened) + LOOK_EVERY)
    return min(times + coming)
