"""Have the consumers of one key moved to another? Pure: usages in, a verdict with its evidence out.

A used key is released only where all five conditions hold; the first one that fails is the reason it stays.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from sparekey.model import AccessKey, Consumer, Evidence, LastUsed, ServiceUse, Usage, Value
from sparekey.policy import Policy, Span
from sparekey.service_names import is_known, same_service

# IAM's last use is coarse (15 minutes or more) and CloudTrail's clock is the service's own.
_TOLERANCE = timedelta(hours=1)
_NAMED = 5
_NEVER = datetime.min.replace(tzinfo=UTC)

NotMovedReason = Literal["no-usage", "recent-use", "source-blind", "usage-partial", "not-moved", "gap"]
_Application = tuple[str, str, str]


class Moved(Value, frozen=True):
    """Every consumer of the old key was since seen on the kept one, and has been quiet for long enough."""

    why: str
    evidence: tuple[Evidence, ...]


class NotMoved(Value, frozen=True):
    """The old key may still be needed: why, and what would release it."""

    reason: NotMovedReason
    why: str
    release: str
    evidence: tuple[Evidence, ...] = ()


def moved(
    old: AccessKey, kept: AccessKey, usages: Mapping[str, Usage], policy: Policy, now: datetime
) -> Moved | NotMoved:
    """Tell whether `old` may go because its consumers are now seen on `kept`.

    `usages` maps key ids to what one usage source saw of them.
    """
    old_usage, kept_usage = usages.get(old.id or ""), usages.get(kept.id or "")
    if old_usage is None or kept_usage is None:
        missing = old if old_usage is None else kept
        return NotMoved(
            "no-usage",
            f"no usage of {missing.id or 'a key without an id'} was read",
            "plan again with --usage history, archive=PLACE or athena=TABLE",
        )
    return (
        _recent(old, old_usage, policy, now)
        or _blind(old, old_usage)
        or _partial((old_usage, kept_usage), policy, now)
        or _behind(old_usage, kept_usage)
        or _gap(old_usage, kept_usage, now)
        or _moved(old, old_usage, kept_usage)
    )


def _recent(old: AccessKey, usage: Usage, policy: Policy, now: datetime) -> NotMoved | None:
    """Condition 1: IAM's own last use, and what the source saw of it, is older than `cutover_quiet`."""
    used = old.last_used
    if used.state == "never" and usage.last_seen is not None:
        return NotMoved(
            "no-usage",
            f"{usage.source} saw {old.id} used at {_at(usage.last_seen)}, and IAM has no use of it to compare with",
            "plan again once IAM shows the use, or --force KEY --because TEXT",
            _seen(usage),
        )
    if used.state == "never":
        return NotMoved(
            "no-usage",
            f"IAM has no use of {old.id}: there is nothing to compare",
            "a key never used is released as idle, by its age and not by cutover",
        )
    if used.state != "used" or used.at is None:
        return NotMoved(
            "recent-use",
            f"IAM's last use of {old.id} was not read {used.why}".rstrip(),
            "read it and plan again",
        )
    latest = max(used.at, usage.last_seen or used.at)
    if now - latest > policy.cutover_quiet:
        return None
    how = f"for {place(used)}" if latest == used.at else f"as {usage.source} saw"
    return NotMoved(
        "recent-use",
        f"{old.id} was used at {_at(latest)}, {how}, less than {policy.cutover_quiet} ago",
        f"{policy.cutover_quiet} without a use of it, so not before {_at(latest + policy.cutover_quiet)}",
        (_iam(old), *_seen(usage)),
    )


def _blind(old: AccessKey, usage: Usage) -> NotMoved | None:
    """Condition 2: the source has a call that is IAM's last use; else it can't see what the key does."""
    used = old.last_used
    if used.at is not None and any(_accounts_for(use, used, used.at) for _, use in _uses(usage)):
        return None
    why = f"{usage.source} has no such call: it can't see what this key does"
    if used.service is None:
        why = f"no call in {usage.source} can be compared with that"
    elif not is_known(used.service):
        why += f", or CloudTrail records {used.service} under a name that sparekey does not know"
    return NotMoved(
        "source-blind",
        f"IAM says that {old.id} was last used for {place(used)} at {_at(used.at)}, and {why}",
        "a usage source that has these calls (data events need an archive or athena over a trail that logs"
        " them), or the key being idle for `quiet`, or --force KEY --because TEXT",
        (_iam(old), *_seen(usage)),
    )


def _accounts_for(use: ServiceUse, used: LastUsed, at: datetime) -> bool:
    """The same service under whatever name, at the same time, in the same region.

    IAM tells no region (`N/A`) of services that have none: CloudTrail files those under one that it chooses.
    """
    return (
        use.own_last is not None
        and used.service is not None
        and same_service(used.service, use.service)
        and used.region in (None, use.region)
        and abs(use.own_last - at) <= _TOLERANCE
    )


def _partial(usages: Iterable[Usage], policy: Policy, now: datetime) -> NotMoved | None:
    """Condition 3: nothing in the window was unread or cut short, and the window reaches back `quiet`."""
    for usage in usages:
        faults = [*usage.partial, *(f"{entry.what}: {entry.why}" for entry in usage.unread)]
        if usage.since is not None and usage.since > now - policy.quiet:
            faults.append(f"it begins at {_at(usage.since)}, less than {policy.quiet} ago")
        if faults:
            return NotMoved(
                "usage-partial",
                f"the usage of {usage.key} from {usage.source} is not whole: {_some(faults)}",
                "mend what could not be read, widen the window, or take another source",
                _seen(usage),
            )
    return None


def _behind(old: Usage, kept: Usage) -> NotMoved | None:
    """Condition 4: each consumer was seen on the kept key after its last call with the old one, and it worked."""
    there = _applications(kept)
    behind = [
        (app, uses) for app, uses in _applications(old).items() if not _arrived(uses, there.get(app, []))
    ]
    if not behind:
        return None
    names = [
        f"{_name(app)}, last seen {_at(_last(uses))}"
        + (" (all its calls there failed)" if _last(there.get(app, ())) > _last(uses) else "")
        for app, uses in behind
    ]
    return NotMoved(
        "not-moved",
        f"not seen on {kept.key} since: {_some(names)}",
        f"move {'it' if len(names) == 1 else 'them'} to {kept.key} and let it be seen there",
        tuple(
            Evidence(old.source, name, old.key, _last(uses))
            for name, (_, uses) in zip(names, behind, strict=True)
        ),
    )


def _arrived(before: list[ServiceUse], there: list[ServiceUse]) -> bool:
    """Seen since, and shown to work there where it worked before."""
    return _last(there) > _last(before) and (_works(there) or not _works(before))


def _works(uses: Iterable[ServiceUse]) -> bool:
    return any(use.calls > use.errors for use in uses)


def _gap(old: Usage, kept: Usage, now: datetime) -> NotMoved | None:
    """Condition 5: the quiet exceeds twice each consumer's longest gap.

    The quiet ends where the source was no longer read; the time between the last call with the old key and
    the first with the kept one is a gap of that consumer too.
    """
    there = _applications(kept)
    end = min(now, old.until or now)
    waiting = []
    for app, uses in _applications(old).items():
        last = _last(uses)
        switch = min(use.first_seen for use in there[app]) - last
        needed = 2 * max(_longest_gap(uses), switch)
        if end - last <= needed:
            waiting.append((last + needed, app, needed, end - last))
    if not waiting:
        return None
    texts = [
        f"{_name(app)} has paused for {_span(needed / 2)} before and is quiet for {_span(quiet)}"
        for _, app, needed, quiet in sorted(waiting)
    ]
    free = max(when for when, *_ in waiting)
    return NotMoved(
        "gap", f"too early to tell: {_some(texts)}", f"no use of {old.key} until {_at(free)}", _seen(old)
    )


def _moved(old: AccessKey, old_usage: Usage, kept_usage: Usage) -> Moved:
    apps = len(_applications(old_usage))
    return Moved(
        f"{apps} consumer{'s' if apps != 1 else ''} of {old.id} moved to {kept_usage.key};"
        f" {old.id} was last used at {_at(old.last_used.at)}",
        (_iam(old), *_seen(old_usage), *_seen(kept_usage)),
    )


def _uses(usage: Usage) -> Iterator[tuple[Consumer, ServiceUse]]:
    return ((consumer, use) for consumer in usage.consumers for use in consumer.uses)


def _applications(usage: Usage) -> dict[_Application, list[ServiceUse]]:
    """What each (agent, source, service) did, whatever the region."""
    found: dict[_Application, list[ServiceUse]] = defaultdict(list)
    for consumer, use in _uses(usage):
        found[consumer.agent, consumer.source, use.service].append(use)
    return dict(sorted(found.items()))


def _last(uses: Iterable[ServiceUse]) -> datetime:
    return max((use.last_seen for use in uses), default=_NEVER)


def _longest_gap(uses: Iterable[ServiceUse]) -> timedelta:
    """An upper bound over all regions: a pause lies within one region's time, or between two of them."""
    ordered = sorted(uses, key=lambda use: use.first_seen)
    longest, reached = timedelta(0), ordered[0].first_seen
    for use in ordered:
        longest = max(longest, use.longest_gap, use.first_seen - reached)
        reached = max(reached, use.last_seen)
    return longest


def _iam(key: AccessKey) -> Evidence:
    return Evidence(
        "iam:GetAccessKeyLastUsed", f"last used for {place(key.last_used)}", key.id or "", key.last_used.at
    )


def _seen(usage: Usage) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            usage.source,
            f"{_name(app)}: {sum(use.calls for use in uses)} calls, last {_at(_last(uses))}",
            usage.key,
            _last(uses),
        )
        for app, uses in _applications(usage).items()
    )


def _name(app: _Application) -> str:
    agent, source, service = app
    return f"{agent} from {source} ({service})"


def place(used: LastUsed) -> str:
    """What IAM says a key was last used for; a service without regions has none."""
    return (used.service or "an unknown service") + (f" in {used.region}" if used.region else "")


def _some(texts: list[str]) -> str:
    more = len(texts) - _NAMED
    return "; ".join(texts[:_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _at(when: datetime | None) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ") if when else "an unknown time"


def _span(length: timedelta) -> str:
    return str(Span(minutes=int(length.total_seconds() // 60)))
