"""Asking a run's probes: a red answer counts when a second try says so, and what turned is put on record."""

from datetime import timedelta

from sparekey.aws.errors import UnreachableError
from sparekey.ledger.events import Probed
from sparekey.ledger.store import Observation
from sparekey.probes import Reading
from sparekey.runs.context import Hands, Work, answer
from sparekey.runs.projection import Run, UserId

# A probe that was asked within this time need not be asked again before a step.
_FRESH = timedelta(seconds=60)


def tolerance(cadence: timedelta) -> timedelta:
    """How long a probe may go unasked before that time counts as unobserved."""
    return 2 * cadence + timedelta(minutes=1)


def ask(hands: Hands, run: Run, name: str) -> Work[Reading]:
    """Ask a probe, and again after a pause where it is red; what turned is put on record."""
    before = hands.ledger.observations(run.id).get(name)
    reading = yield from _ask_once(hands, run, name)
    flaked = False
    if reading.green is False:
        yield hands.patience.pause
        again = yield from _ask_once(hands, run, name)
        flaked = again.green is not False
        if flaked:
            hands.note(run.id, Probed(name, reading.green, reading.output))
        reading = again
    now = hands.clock.now()
    if flaked or before is None or before.green is not reading.green:
        hands.note(run.id, Probed(name, reading.green, reading.output, again=flaked))
    # An observation of a time that has not come yet was made by a wrong clock: it says nothing of when.
    last = min(before.seen, now) if before else run.opened
    seen = now if reading.green is not None else last
    hands.ledger.observe(run.id, name, Observation(now, seen, reading.green))
    return reading


def _ask_once(hands: Hands, run: Run, name: str) -> Work[Reading]:
    try:
        return (yield from answer(lambda: hands.probes.ask(run.policy, name)))
    except UnreachableError as error:  # it has not ended in time
        return Reading(None, f"probe {name} did not end: {error.message}")


def not_green(hands: Hands, run: Run, user: UserId) -> Work[tuple[str, Reading] | None]:
    """The first of a user's probes that is not green now; None where all are."""
    for name in hands.probes.speaking_for(run.policy, *user):
        known = hands.ledger.observations(run.id).get(name)
        if known and known.green and timedelta(0) <= hands.clock.now() - known.asked < _FRESH:
            continue
        reading = yield from ask(hands, run, name)
        if not reading.green:
            return name, reading
    return None
