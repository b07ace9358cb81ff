"""Checks a run's probes: unhealthy counts when a second check confirms it, and each change is recorded."""

from datetime import timedelta

from sparekey.aws.errors import UnreachableError
from sparekey.ledger.events import ProbeChanged
from sparekey.ledger.records import ProbeObservation
from sparekey.probes import ProbeResult
from sparekey.runs.context import RunContext, StepCoroutine, perform
from sparekey.runs.key_facts import UserId
from sparekey.runs.run_header import RunHeader

# A probe that was asked within this time need not be asked again before a step.
_FRESH = timedelta(seconds=60)


def tolerance(cadence: timedelta) -> timedelta:
    """How long a probe may be unchecked before that time counts as unobserved."""
    return 2 * cadence + timedelta(minutes=1)


def check_probe(context: RunContext, run: RunHeader, name: str) -> StepCoroutine[ProbeResult]:
    """Check a probe, and again after a pause where it is unhealthy; a change is recorded."""
    before = context.ledger.observations(run.id).get(name)
    reading = yield from _check_once(context, run, name)
    flaked = False
    if reading.healthy is False:
        yield context.retry_policy.pause
        again = yield from _check_once(context, run, name)
        flaked = again.healthy is not False
        if flaked:
            context.record(run.id, ProbeChanged(name, reading.healthy, reading.output))
        reading = again
    now = context.clock.now()
    if flaked or before is None or before.healthy is not reading.healthy:
        context.record(run.id, ProbeChanged(name, reading.healthy, reading.output, is_retry=flaked))
    # An observation of a time that has not come yet was made by a wrong clock: it does not show when.
    last = min(before.seen, now) if before else run.opened
    seen = now if reading.healthy is not None else last
    context.ledger.observe(run.id, name, ProbeObservation(now, seen, reading.healthy))
    return reading


def _check_once(context: RunContext, run: RunHeader, name: str) -> StepCoroutine[ProbeResult]:
    try:
        return (yield from perform(lambda: context.probes.check(run.policy, name)))
    except UnreachableError as error:  # it has not ended in time
        return ProbeResult(None, f"probe {name} did not end: {error.message}")


def unhealthy_probe(
    context: RunContext, run: RunHeader, user: UserId
) -> StepCoroutine[tuple[str, ProbeResult] | None]:
    """The first of a user's probes that is not healthy now; None where all are."""
    for name in context.probes.probes_for(run.policy, *user):
        known = context.ledger.observations(run.id).get(name)
        if known and known.healthy and timedelta(0) <= context.clock.now() - known.asked < _FRESH:
            continue
        reading = yield from check_probe(context, run, name)
        if not reading.healthy:
            return name, reading
    return None
