"""Have the consumers of one key moved to another? Pure: usages in, a verdict with its evidence out.

A used key is released only where all five conditions hold; the first one that fails is the reason to hold it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

from sparekey.decision import DecisionContext
from sparekey.formatting import moment_with_seconds, span
from sparekey.model import AccessKey, Consumer, Evidence, LastUsed, ServiceUse, Usage, Value
from sparekey.policy import Policy
from sparekey.service_names import is_known, same_service

# IAM's last use is coarse (15 minutes or more) and CloudTrail's clock is the service's own.
_TOLERANCE = timedelta(hours=1)
_MAX_NAMED = 5
_NEVER = datetime.min.replace(tzinfo=UTC)

NotMovedReason = Literal["no-usage", "recent-use", "source-blind", "usage-partial", "not-moved", "gap"]
_ConsumerUse = tuple[str, str, str]


class ConsumersMoved(Value, frozen=True):
    """Every consumer of the old key was since seen on the kept one, and has been quiet for long enough."""

    why: str
    evidence: tuple[Evidence, ...]


class ConsumersNotMoved(Value, frozen=True):
    """The old key may still be needed: why, and what would release it."""

    reason: NotMovedReason
    why: str
    release: str
    evidence: tuple[Evidence, ...] = ()


def have_consumers_moved(
    old: AccessKey, kept: AccessKey, context: DecisionContext
) -> ConsumersMoved | ConsumersNotMoved:
    """Whether `old` can be deactivated because its consumers are now seen on `kept`.

    The context's usages are what one usage source saw of the keys.
    """
    policy, now = context.policy, context.now
    old_usage, kept_usage = context.usages.get(old.id or ""), context.usages.get(kept.id or "")
    if old_usage is None or kept_usage is None:
        missing = old if old_usage is None else kept
        return ConsumersNotMoved(
            "no-usage",
            f"no usage of {missing.id or 'a key without an id'} was read",
            "plan again with --usage history, archive=PLACE or athena=TABLE",
        )
    return (
        _used_recently(old, old_usage, policy, now)
        or _source_is_blind(old, old_usage)
        or _incomplete_usage((old_usage, kept_usage), policy, now)
        or _not_yet_on_kept_key(old_usage, kept_usage)
        or _quiet_too_short(old_usage, kept_usage, now)
        or _cutover_evidence(old, old_usage, kept_usage)
    )


def _used_recently(old: AccessKey, usage: Usage, policy: Policy, now: datetime) -> ConsumersNotMoved | None:
    """Condition 1: IAM's own last use, and what the source saw of it, is older than `cutover_quiet`."""
    used = old.last_used
    if used.state == "never" and usage.last_seen is not None:
        return ConsumersNotMoved(
            "no-usage",
            f"{usage.source} saw {old.id} used at {_time(usage.last_seen)}, "
            "and IAM has no use of it to compare with",
            "plan again once IAM shows the use, or --force KEY --because TEXT",
            _usage_evidence(usage),
        )
    if used.state == "never":
        return ConsumersNotMoved(
            "no-usage",
            f"IAM has no use of {old.id}: it cannot be compared",
            "a key never used is released as idle, by its age and not by cutover",
        )
    if used.state != "used" or used.at is None:
        return ConsumersNotMoved(
            "recent-use",
            f"IAM's last use of {old.id} was not read {used.why}".rstrip(),
            "read it and plan again",
        )
    latest = max(used.at, usage.last_seen or used.at)
    if now - latest > policy.cutover_quiet:
        return None
    seen = f"for {service_and_region(used)}" if latest == used.at else f"as {usage.source} saw"
    return ConsumersNotMoved(
        "recent-use",
        f"{old.id} was used at {_time(latest)}, {seen}, less than {span(policy.cutover_quiet)} ago",
        f"{span(policy.cutover_quiet)} without a use of it, so not before {_time(latest + policy.cutover_quiet)}",
        (_iam_evidence(old), *_usage_evidence(usage)),
    )


def _source_is_blind(old: AccessKey, usage: Usage) -> ConsumersNotMoved | None:
    """Condition 2: the source has a call that is IAM's last use; else it can't see what the key does."""
    used = old.last_used
    if used.at is not None and any(_accounts_for(use, used, used.at) for _, use in _uses_by_consumer(usage)):
        return None
    why = f"{usage.source} has no such call: it can't see what this key does"
    if used.service is None:
        why = f"no call in {usage.source} can be compared with that"
    elif not is_known(used.service):
        why += f", or CloudTrail records {used.service} under a name that sparekey does not know"
    return ConsumersNotMoved(
        "source-blind",
        f"IAM reports that {old.id} was last used for {service_and_region(used)} at {_time(used.at)}, and {why}",
        "a usage source that has these calls (data events need an archive or athena over a trail that logs"
        " them), or the key being idle for `quiet`, or --force KEY --because TEXT",
        (_iam_evidence(old), *_usage_evidence(usage)),
    )


def _accounts_for(use: ServiceUse, used: LastUsed, at: datetime) -> bool:
    """The same service under whatever name, at the same time, in the same region.

    IAM reports no region (`N/A`) for services that have none: CloudTrail files those under one that it chooses.
    """
    return (
        use.own_last is not None
        and used.service is not None
        and same_service(used.service, use.service)
        and used.region in (None, use.region)
        and abs(use.own_last - at) <= _TOLERANCE
    )


def _incomplete_usage(usages: Iterable[Usage], policy: Policy, now: datetime) -> ConsumersNotMoved | None:
    """Condition 3: nothing in the window was unread or cut short, and the window reaches back `quiet`."""
    for usage in usages:
        faults = [*usage.partial, *(f"{entry.what}: {entry.why}" for entry in usage.unread)]
        if usage.since is not None and usage.since > now - policy.quiet:
            faults.append(f"it begins at {_time(usage.since)}, less than {span(policy.quiet)} ago")
        if faults:
            return ConsumersNotMoved(
                "usage-partial",
                f"the usage of {usage.key} from {usage.source} is not whole: {_short_list(faults)}",
                "fix what could not be read, widen the window, or use another source",
                _usage_evidence(usage),
            )
    return None


def _not_yet_on_kept_key(old: Usage, kept: Usage) -> ConsumersNotMoved | None:
    """Condition 4: each consumer was seen on the kept key after its last call with the old one, and it worked."""
    there = _by_consumer(kept)
    behind = [
        (app, uses)
        for app, uses in _by_consumer(old).items()
        if not _seen_on_kept_key(uses, there.get(app, []))
    ]
    if not behind:
        return None
    names = [
        f"{_consumer_name(app)}, last seen {_time(_latest(uses))}"
        + (" (all its calls there failed)" if _latest(there.get(app, ())) > _latest(uses) else "")
        for app, uses in behind
    ]
    return ConsumersNotMoved(
        "not-moved",
        f"not seen on {kept.key} since: {_short_list(names)}",
        f"move {'it' if len(names) == 1 else 'them'} to {kept.key} and let it be seen there",
        tuple(
            Evidence(old.source, name, old.key, _latest(uses))
            for name, (_, uses) in zip(names, behind, strict=True)
        ),
    )


def _seen_on_kept_key(before: list[ServiceUse], there: list[ServiceUse]) -> bool:
    """Seen since, and shown to work there where it worked before."""
    return _latest(there) > _latest(before) and (_successful_uses(there) or not _successful_uses(before))


def _successful_uses(uses: Iterable[ServiceUse]) -> bool:
    return any(use.calls > use.errors for use in uses)


def _quiet_too_short(old: Usage, kept: Usage, now: datetime) -> ConsumersNotMoved | None:
    """Condition 5: the quiet exceeds twice each consumer's longest gap.

    The quiet ends where the source was no longer read; the time between the last call with the old key and
    the first with the kept one is a gap of that consumer too.
    """
    there = _by_consumer(kept)
    end = min(now, old.until or now)
    waiting = []
    for app, uses in _by_consumer(old).items():
        last = _latest(uses)
        switch = min(use.first_seen for use in there[app]) - last
        needed = 2 * max(_longest_gap(uses), switch)
        if end - last <= needed:
            waiting.append((last + needed, app, needed, end - last))
    if not waiting:
        return None
    texts = [
        f"{_consumer_name(app)} has paused for {span(needed / 2)} before and is quiet for {span(quiet)}"
        for _, app, needed, quiet in sorted(waiting)
    ]
    free = max(when for when, *_ in waiting)
    return ConsumersNotMoved(
        "gap",
        f"too early: {_short_list(texts)}",
        f"no use of {old.key} until {_time(free)}",
        _usage_evidence(old),
    )


def _cutover_evidence(old: AccessKey, old_usage: Usage, kept_usage: Usage) -> ConsumersMoved:
    apps = len(_by_consumer(old_usage))
    return ConsumersMoved(
        f"{apps} consumer{'s' if apps != 1 else ''} of {old.id} moved to {kept_usage.key};"
        f" {old.id} was last used at {_time(old.last_used.at)}",
        (_iam_evidence(old), *_usage_evidence(old_usage), *_usage_evidence(kept_usage)),
    )


def _uses_by_consumer(usage: Usage) -> Iterator[tuple[Consumer, ServiceUse]]:
    return ((consumer, use) for consumer in usage.consumers for use in consumer.uses)


def _by_consumer(usage: Usage) -> dict[_ConsumerUse, list[ServiceUse]]:
    """What each (agent, source, service) did, whatever the region."""
    uses: dict[_ConsumerUse, list[ServiceUse]] = defaultdict(list)
    for consumer, use in _uses_by_consumer(usage):
        uses[consumer.agent, consumer.source, use.service].append(use)
    return dict(sorted(uses.items()))


def _latest(uses: Iterable[ServiceUse]) -> datetime:
    return max((use.last_seen for use in uses), default=_NEVER)


def _longest_gap(uses: Iterable[ServiceUse]) -> timedelta:
    """An upper bound over all regions: a pause lies within one region's time, or between two of them."""
    ordered = sorted(uses, key=lambda use: use.first_seen)
    longest, reached = timedelta(0), ordered[0].first_seen
    for use in ordered:
        longest = max(longest, use.longest_gap, use.first_seen - reached)
        reached = max(reached, use.last_seen)
    return longest


def _iam_evidence(key: AccessKey) -> Evidence:
    return Evidence(
        "iam:GetAccessKeyLastUsed",
        f"last used for {service_and_region(key.last_used)}",
        key.id or "",
        key.last_used.at,
    )


def _usage_evidence(usage: Usage) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            usage.source,
            f"{_consumer_name(app)}: {sum(use.calls for use in uses)} calls, last {_time(_latest(uses))}",
            usage.key,
            _latest(uses),
        )
        for app, uses in _by_consumer(usage).items()
    )


def _consumer_name(app: _ConsumerUse) -> str:
    agent, source, service = app
    return f"{agent} from {source} ({service})"


def service_and_region(used: LastUsed) -> str:
    """What IAM reports a key was last used for; a service without regions has none."""
    return (used.service or "an unknown service") + (f" in {used.region}" if used.region else "")


def _short_list(texts: list[str]) -> str:
    more = len(texts) - _MAX_NAMED
    return "; ".join(texts[:_MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _time(when: datetime | None) -> str:
    return moment_with_seconds(when) if when else "an unknown time"
