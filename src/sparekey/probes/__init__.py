"""Probes: health checks that tell whether the applications of some users work; one module per kind.

A new kind is one module here with a class `Probe(Common)` in it: its name in the policy is the module's.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

import msgspec

from sparekey.errors import SparekeyError
from sparekey.model import Value
from sparekey.policy import Policy, PolicyError, Scope, Span, decode_span

OUTPUT_LIMIT = 2000
_GRACE = 5.0


class Reading(Value, frozen=True):
    """What a probe said: green, red, or None where it could not be asked; `output` is cut short."""

    green: bool | None
    output: str


class Tools(Value, frozen=True):
    """What probes are asked with: the environment they may take from, and CloudWatch.

    `alarm_state(account, region, name)` returns the state of an alarm; it raises SparekeyError.
    """

    environ: Mapping[str, str] = {}
    alarm_state: Callable[[str, str, str], str] | None = None


class Common(Scope, frozen=True, kw_only=True):
    """What every probe has: whom it speaks for, how often it is asked, its time limit in seconds."""

    name: str
    every: Span = Span(minutes=5)
    timeout: float = 10.0

    def check(self) -> None:
        """Raise PolicyError where the fields make no sense together."""
        if self.every <= timedelta(0) or self.timeout <= 0:
            raise PolicyError(f"probe {self.name!r} needs a cadence and a time limit longer than nothing")

    def ask(self, tools: Tools) -> Reading:
        """Ask it now."""
        raise SparekeyError(f"{type(self).__module__} asks nothing of {tools!r}")


def cut(text: str) -> str:
    """An output short enough to keep."""
    text = text.strip()
    return text if len(text) <= OUTPUT_LIMIT else f"{text[:OUTPUT_LIMIT]} … (cut)"


@cache
def kinds() -> Mapping[str, type[Common]]:
    """Every kind by its name."""
    found: dict[str, type[Common]] = {}
    for module in pkgutil.iter_modules(__path__):
        found[module.name] = importlib.import_module(f"{__name__}.{module.name}").Probe
    return found


def parse(tables: tuple[Mapping[str, Any], ...]) -> tuple[Common, ...]:
    """The probes of a policy; raises PolicyError with the probe and the field that is wrong."""
    probes = tuple(_parse(table) for table in tables)
    names = [probe.name for probe in probes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PolicyError(f"two probes are called {twice[0]!r}", "Give each probe a name of its own.")
    return probes


def _parse(table: Mapping[str, Any]) -> Common:
    fields = dict(table)
    name, kind = fields.get("name", "?"), fields.pop("kind", None)
    if kind not in kinds():
        known = ", ".join(sorted(kinds()))
        raise PolicyError(f"probe {name!r} has the kind {kind!r}", f"Known kinds: {known}.")
    try:
        probe = msgspec.convert(fields, kinds()[kind], dec_hook=decode_span)
    except msgspec.ValidationError as error:
        raise PolicyError(f"probe {name!r} has a wrong field: {error}") from error
    probe.check()
    return probe


class Probes:
    """The probes of whatever policy it is asked about."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._last: tuple[Policy | None, dict[str, Common]] = (None, {})

    def of(self, policy: Policy) -> dict[str, Common]:
        """A policy's probes by name; raises PolicyError."""
        if self._last[0] is not policy:
            self._last = (policy, {probe.name: probe for probe in parse(policy.probes)})
        return self._last[1]

    def speaking_for(self, policy: Policy, account: str, user: str) -> tuple[str, ...]:
        """The names of the probes that tell whether a user's applications work."""
        return tuple(name for name, probe in sorted(self.of(policy).items()) if probe.covers(account, user))

    def cadence(self, policy: Policy, name: str) -> timedelta:
        """How often a probe is asked."""
        return self.of(policy)[name].every

    def deadline(self, policy: Policy, name: str) -> float:
        """Seconds after which a probe that was asked counts as not answering: its time limit and some more."""
        return self.of(policy)[name].timeout + _GRACE

    def ask(self, policy: Policy, name: str) -> Reading:
        """Ask one probe now."""
        try:
            return self.of(policy)[name].ask(self._tools)
        except SparekeyError as error:
            return Reading(None, cut(error.message))
