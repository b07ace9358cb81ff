"""Faults on purpose, import hashlib
from the scenario."""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TypeVar

from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.request import ApiCall
from sparekey.sandbox.scenario import (
    Deny,
    Fail,
    Fault,
    FaultScope,
    Ignored,
    LateHistory,
    LateLastUsed,
    Latency,
    ShortPages,
    SlowAuth,
    SlowNewKeys,
    Stale,
    Throttle,
)
from sparekey.sandbox.state import Company, SandboxKey

F = TypeVar("F", bound=FaultScope)


class FaultRules:
    """The faults of a company; `company.faults` may be changed at any time."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self._buckets: dict[tuple[int, str, str], tuple[float, datetime]] = {}
        # The fault is kept beside its count, so that no other one can get its identity.
        self._spent: dict[int, tuple[Fault, int]] = {}

    def _matching(self, kind: type[F], call: ApiCall) -> Iterator[F]:
        for fault in self._company.faults:
            if isinstance(fault, kind) and self._applies(fault, call):
                yield fault

    @staticmethod
    def _applies(fault: FaultScope, call: ApiCall) -> bool:
        return (
            matches(fault, call.caller.account, call.action, call.caller.principal)
            and fnmatchcase(call.target, fault.target)
            and fnmatchcase(call.region, fault.region)
        )

    def auth_lag(self, key: SandboxKey) -> timedelta:
        """How far behind the place is that checks this key."""
        lags = [
            fault.seconds
            for fault in self._company.faults
            if isinstance(fault, SlowAuth)
            and fnmatchcase(key.account, fault.account)
            and fnmatchcase(key.user, fault.user)
        ]
        return timedelta(seconds=max(lags, default=0.0))

    def is_usable(self, key: SandboxKey, region: str, now: datetime) -> bool:
        """Whether a region takes a key yet that was created a moment ago; while it spreads, the answers flap."""
        age = (now - key.statuses[0][0]).total_seconds()
        for fault in self._company.faults:
            if not isinstance(fault, SlowNewKeys) or not fnmatchcase(region, fault.region):
                continue
            if not (fnmatchcase(key.account, fault.account) and fnmatchcase(key.user, fault.user)):
                continue
            if age < fault.seconds:
                return False
            flaps = hashlib.sha256(f"{key.id} {region} {int(age)}".encode()).digest()[0] % 2
            if age < 1.5 * fault.seconds and flaps:
                return False
        return True

    def as_of(self, call: ApiCall) -> datetime:
        """The time whose truth this read of IAM shows."""
        lag = 0.0
        for fault in self._matching(Stale, call):
            if not fault.flapping or self._company.random.random() < 0.5:
                lag = max(lag, fault.seconds)
        return call.now - timedelta(seconds=lag)

    def history_until(self, call: ApiCall) -> datetime:
        """The latest time that LookupEvents shows."""
        return call.now - timedelta(
            seconds=max((f.seconds for f in self._matching(LateHistory, call)), default=0.0)
        )

    def last_used_until(self, call: ApiCall) -> datetime:
        """The latest time that GetAccessKeyLastUsed shows."""
        return call.now - timedelta(
            seconds=max((f.seconds for f in self._matching(LateLastUsed, call)), default=0.0)
        )

    def page_size(self, call: ApiCall, asked: int) -> int:
        """How many entries this page has at most."""
        return min([asked, *(fault.size for fault in self._matching(ShortPages, call))])

    def ignores_update(self, call: ApiCall) -> bool:
        """Whether this update shall be answered and forgotten."""
        return any(self._spend(fault, fault.times) for fault in self._matching(Ignored, call))

    def latency(self, call: ApiCall) -> float:
        """Seconds to hold the answer back."""
        return sum(fault.seconds for fault in self._matching(Latency, call))

    def throttle(self, call: ApiCall) -> None:
        """Take a token; raises AwsError where there is none."""
        for fault in self._matching(Throttle, call):
            if not self.take_from_bucket(
                id(fault), call.caller.account, call.action, fault.rate, fault.burst
            ):
                raise ErrorReplyError("Throttling", "Rate exceeded", 400)

    def take_from_bucket(self, bucket: int, account: str, place: str, rate: float, burst: float) -> bool:
        """Take a token from a bucket that fills with time; False where it is empty."""
        now = self._company.clock.now()
        tokens, since = self._buckets.get((bucket, account, place), (burst, now))
        tokens = min(burst, tokens + max(0.0, (now - since).total_seconds()) * rate)
        enough = tokens >= 1 - 1e-9
        self._buckets[bucket, account, place] = (tokens - 1 if enough else tokens, now)
        return enough

    def fail(self, call: ApiCall, *, after: bool) -> None:
        """Fail before or after the work is done; raises AwsError."""
        for fault in self._matching(Fail, call):
            if (
                fault.after == after
                and self._company.random.random() < fault.share
                and self._spend(fault, fault.times)
            ):
                raise ErrorReplyError(fault.code, fault.message, fault.status)

    def denied(self, account: str, action: str, principal: str, target: str = "", region: str = "") -> bool:
        """Whether the scenario denies an action."""
        return any(
            isinstance(fault, Deny)
            and matches(fault, account, action, principal)
            and fnmatchcase(target, fault.target)
            and fnmatchcase(region, fault.region)
            for fault in self._company.faults
        )

    def _spend(self, fault: Fault, times: int | None) -> bool:
        if times is None:
            return True
        spent = self._spent.get(id(fault), (fault, 0))[1]
        self._spent[id(fault)] = (fault, spent + 1)
        return spent < times


def matches(fault: FaultScope, account: str, action: str, principal: str) -> bool:
    """Whether a fault strikes an action of a principal, whomever it is about."""
    return (
        fnmatchcase(account, fault.account)
        and fnmatchcase(action, fault.action)
        and fnmatchcase(principal, fault.user)
    )
