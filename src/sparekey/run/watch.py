"""The days after: probes are asked, a red one brings keys back, unobserved time is never settled."""

from datetime import datetime, timedelta

from sparekey.ledger import Observation
from sparekey.run.asking import ask, tolerance
from sparekey.run.drive import drive
from sparekey.run.entries import Stopped, Unobserved, Verdict
from sparekey.run.record import KeyFacts, KeyId, Run, RunFold, UserId
from sparekey.run.steps import look_at, reactivate
from sparekey.run.turn import Hands, Turn

# How often the watched users' keys are listed and the last use of those that stay is read.
LOOK_EVERY = timedelta(hours=6)
_LOOK = "(listing)"


def look_after(hands: Hands, run: Run, fold: RunFold) -> None:
    """One round of the watch over all that is watched."""
    watched = _watched(fold)
    if not watched:
        return
    red = _ask_due(hands, run, watched)
    if red:
        roll_back(hands, run, fold, red)
    _look_at_users(hands, run, _watched(reload(hands, fold)))
    _judge(hands, run, reload(hands, fold))


def reload(hands: Hands, fold: RunFold) -> RunFold:
    """The fold with the entries that came since."""
    for entry in hands.ledger.entries(fold.run, after=fold.last):
        fold.add(entry)
    return fold


def _watched(fold: RunFold) -> dict[KeyId, KeyFacts]:
    return {key: facts for key, facts in sorted(fold.facts.items()) if facts.state == "watching"}


def _began(facts: KeyFacts) -> datetime:
    if facts.confirmed_at is None:
        raise ValueError("what is watched was confirmed")
    return facts.confirmed_at


def _names(watched: dict[KeyId, KeyFacts]) -> dict[str, list[KeyFacts]]:
    found: dict[str, list[KeyFacts]] = {}
    for facts in watched.values():
        for name in facts.watch.probes if facts.watch else ():
            found.setdefault(name, []).append(facts)
    return found


def _ask_due(hands: Hands, run: Run, watched: dict[KeyId, KeyFacts]) -> dict[str, str]:
    """Ask every probe whose time has come; returns the red ones and what they said."""
    red: dict[str, str] = {}
    seen = hands.ledger.observations(run.id)
    for name, steps in sorted(_names(watched).items()):
        now = hands.clock.now()
        known = seen.get(name)
        cadence = hands.probes.cadence(run.policy, name)
        ends = [facts.watch.until for facts in steps if facts.watch and facts.watch.until <= now]
        due = known is None or known.green is False or now >= known.asked + cadence
        if not due and not (known and any(known.seen < end for end in ends)):
            continue
        since = max(known.seen, min(_began(facts) for facts in steps)) if known else _first(steps)
        asked = ask(hands, run, name)
        if now - since > tolerance(cadence):
            hands.note(run.id, Unobserved(name, since, now))
        if asked.green is False:
            red[name] = asked.output
    return red


def _first(steps: list[KeyFacts]) -> datetime:
    return min(_began(facts) for facts in steps)


def roll_back(hands: Hands, run: Run, fold: RunFold, red: dict[str, str]) -> None:
    """Stop the waves and reactivate every watched key that a red probe speaks for."""
    for name, output in sorted(red.items()):
        if not reload(hands, fold).halted:
            hands.note(run.id, Stopped(f"probe {name}", output))
    drive(
        (
            reactivate(hands, run, key[:2], key[2], "rollback", _because(facts, red))
            for key, facts in _watched(fold).items()
            if facts.watch and set(facts.watch.probes) & set(red)
        ),
        hands.clock,
    )


def _because(facts: KeyFacts, red: dict[str, str]) -> str:
    names = [name for name in (facts.watch.probes if facts.watch else ()) if name in red]
    return "; ".join(f"probe {name} turned red: {red[name]}" for name in names)


def _look_at_users(hands: Hands, run: Run, watched: dict[KeyId, KeyFacts]) -> None:
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
            look_at(Turn(hands, run, user), tuple((steps[key], watched[key]) for key in keys))
            for user, keys in users.items()
        ),
        hands.clock,
    )


def _judge(hands: Hands, run: Run, fold: RunFold) -> None:
    """Say what the watch came to, where it is over."""
    seen = hands.ledger.observations(run.id)
    now = hands.clock.now()
    for key, facts in _watched(fold).items():
        if facts.watch is None or now < facts.watch.until:
            continue
        blind = [
            name for name in facts.watch.probes if name not in seen or seen[name].seen < facts.watch.until
        ]
        gaps = [gap for gap in fold.unobserved if _concerns(gap, facts)]
        longest = max(tolerance(hands.probes.cadence(run.policy, name)) for name in facts.watch.probes)
        if gaps:
            why = f"probe {gaps[0].probe} was not asked from {gaps[0].since} to {gaps[0].until}"
            verdict = Verdict(*key, "unwatched", why)
        elif not blind:
            verdict = Verdict(*key, "settled", f"{', '.join(facts.watch.probes)} stayed green")
        elif now > facts.watch.until + longest:
            verdict = Verdict(*key, "unwatched", f"probe {blind[0]} could not be asked at the end")
        else:
            continue
        Turn(hands, run, key[:2]).say_last(verdict)


def _concerns(gap: Unobserved, facts: KeyFacts) -> bool:
    watch = facts.watch
    return (
        watch is not None
        and gap.probe in watch.probes
        and gap.until > _began(facts)
        and gap.since < watch.until
    )


def next_due(hands: Hands, run: Run, fold: RunFold) -> datetime | None:
    """When the watch must be looked after again; the same answer whoever asks."""
    watched = _watched(fold)
    if not watched:
        return None
    now = hands.clock.now()
    seen = hands.ledger.observations(run.id)
    times = [facts.watch.until for facts in watched.values() if facts.watch and facts.watch.until > now]
    for name in _names(watched):
        known = seen.get(name)
        cadence = hands.probes.cadence(run.policy, name)
        times.append((known.asked if known else run.opened) + cadence)
    look = seen.get(_LOOK)
    times.append((look.asked if look else run.opened) + LOOK_EVERY)
    return min(times)
