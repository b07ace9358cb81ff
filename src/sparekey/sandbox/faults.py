"""What goes wrong on purpose, as the scenario says."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TypeVar

from sparekey.sandbox.errors import AwsError
from sparekey.sandbox.request import Call
from sparekey.sandbox.scenario import (
    Deny,
    Fail,
    Fault,
    Ignored,
    LateHistory,
    LateLastUsed,
    Latency,
    ShortPages,
    SlowAuth,
    Stale,
    Throttle,
    Where,
)
from sparekey.sandbox.state import Company, Key

F = TypeVar("F", bound=Where)


class Faults:
    """The faults of a company; `company.faults` may be changed at any time."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self._buckets: dict[tuple[int, str, str], tuple[float, datetime]] = {}
        # The fault is kept beside its count, so that no other one can get its identity.
        self._spent: dict[int, tuple[Fault, int]] = {}

    def _striking(self, kind: type[F], call: Call) -> Iterator[F]:
        for fault in self._company.faults:
            if isinstance(fault, kind) and self._strikes(fault, call):
                yield fault

    @staticmethod
    def _strikes(fault: Where, call: Call) -> bool:
        return (
            matches(fault, call.caller.account, call.action, call.caller.principal)
            and fnmatchcase(call.target, fault.target)
            and fnmatchcase(call.region, fault.region)
        )

    def auth_lag(self, key: Key) -> timedelta:
        """How far behind the place is that checks this key."""
        lags = [
            fault.seconds
            for fault in self._company.faults
            if isinstance(fault, SlowAuth)
            and fnmatchcase(key.account, fault.account)
            and fnmatchcase(key.user, fault.user)
        ]
        return timedelta(seconds=max(lags, default=0.0))

    def as_of(self, call: Call) -> datetime:
        """The time whose truth this read of IAM shows."""
        lag = 0.0
        for fault in self._striking(Stale, call):
            if not fault.flapping or self._company.random.random() < 0.5:
                lag = max(lag, fault.seconds)
        return call.now - timedelta(seconds=lag)

    def history_until(self, call: Call) -> datetime:
        """The latest time that LookupEvents shows."""
        return call.now - timedelta(
            seconds=max((f.seconds for f in self._striking(LateHistory, call)), default=0.0)
        )

    def last_used_until(self, call: Call) -> datetime:
        """The latest time that GetAccessKeyLastUsed shows."""
        return call.now - timedelta(
            seconds=max((f.seconds for f in self._striking(LateLastUsed, call)), default=0.0)
        )

    def page_size(self, call: Call, asked: int) -> int:
        """How many entries this page has at most."""
        return min([asked, *(fault.size for fault in self._striking(ShortPages, call))])

    def ignores_update(self, call: Call) -> bool:
        """Whether this update shall be answered and forgotten."""
        return any(self._spend(fault, fault.times) for fault in self._striking(Ignored, call))

    def latency(self, call: Call) -> float:
        """Seconds to hold the answer back."""
        return sum(fault.seconds for fault in self._striking(Latency, call))

    def throttle(self, call: Call) -> None:
        """Take a token; raises AwsError where there is none."""
        for fault in self._striking(Throttle, call):
            if not self.take(id(fault), call.caller.account, call.action, fault.rate, fault.burst):
                raise AwsError("Throttling", "Rate exceeded", 400)

    def take(self, bucket: int, account: str, place: str, rate: float, burst: float) -> bool:
        """Take a token from a bucket that fills with time; False where it is empty."""
        now = self._company.clock.now()
        tokens, since = self._buckets.get((bucket, account, place), (burst, now))
        tokens = min(burst, tokens + max(0.0, (now - since).total_seconds()) * rate)
        enough = tokens >= 1 - 1e-9
        self._buckets[bucket, account, place] = (tokens - 1 if enough else tokens, now)
        return enough

    def fail(self, call: Call, *, after: bool) -> None:
        """Fail before or after the work is done; raises AwsError."""
        for fault in self._striking(Fail, call):
            if (
                fault.after == after
                and self._company.random.random() < fault.share
                and self._spend(fault, fault.times)
            ):
                raise AwsError(fault.code, fault.message, fault.status)

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


def matches(fault: Where, account: str, action: str, principal: str) -> bool:
    """Whether a fault strikes an action of a principal, whomever it is about."""
    return (
        fnmatchcase(account, fault.account)
        and fnmatchcase(action, fault.action)
        and fnmatchcase(principal, fault.user)
    )
