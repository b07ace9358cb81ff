"""Probes: health checks of the applications of some users; one module per kind.

A new kind is one module here with a class `Probe(Common)` in it: its name in the policy is the module's.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from sparekey.errors import SparekeyError
from sparekey.formatting import clean_line
from sparekey.model import Value
from sparekey.policy import FieldError, Policy, Scope, Span, check_scope, convert, table_place

OUTPUT_LIMIT = 200
_KILL_AFTER = 5.0
_LONGEST_NAME = 100
_LONGEST_TIMEOUT = 3600.0


class ProbeResult(Value, frozen=True):
    """One result of a probe: healthy, unhealthy or None (unknown); `output` is cut short."""

    healthy: bool | None
    output: str


class ProbeTools(Value, frozen=True):
    """What probes are asked with: the environment they may take from, and CloudWatch.

    `alarm_state(account, region, name)` returns the state of an alarm; it raises SparekeyError.
    """

    environ: Mapping[str, str] = {}
    alarm_state: Callable[[str, str, str], str] | None = None


class BaseProbe(Scope, frozen=True, kw_only=True):
    """What every probe has: which users it covers, its interval, its time limit in seconds."""

    name: str
    every: Span = Span(minutes=5)
    timeout: float = 10.0

    def validate(self) -> None:
        """Raise FieldError for the first field that cannot be used."""
        # Text in brackets names what a run observes beside its probes.
        if not self.name.strip() or not self.name.isprintable() or self.name.startswith("("):
            raise FieldError("name", f"{self.name!r} is not a name that a probe can have")
        if len(self.name) > _LONGEST_NAME:
            raise FieldError("name", f"it is longer than {_LONGEST_NAME} characters")
        check_scope(self)
        if self.every <= timedelta(0):
            raise FieldError("every", "it must be longer than zero")
        if not 0 < self.timeout <= _LONGEST_TIMEOUT:
            raise FieldError("timeout", f"it must be more than 0 and at most {_LONGEST_TIMEOUT:g} seconds")

    def check(self, tools: ProbeTools) -> ProbeResult:
        """Ask it now."""
        raise SparekeyError(f"{type(self).__module__} asks nothing of {tools!r}")


def shorten_output(text: str) -> str:
    """An output fit to keep and show: one line, no control characters, at most OUTPUT_LIMIT characters."""
    return clean_line(text, OUTPUT_LIMIT)


@cache
def kinds() -> Mapping[str, type[BaseProbe]]:
    """Every kind by its name."""
    by_name: dict[str, type[BaseProbe]] = {}
    for module in pkgutil.iter_modules(__path__):
        by_name[module.name] = importlib.import_module(f"{__name__}.{module.name}").PROBE
    return by_name


def parse(tables: tuple[Mapping[str, Any], ...]) -> tuple[BaseProbe, ...]:
    """The probes of a policy, checked; raises FieldError with the table and the field that is wrong."""
    probes: dict[str, BaseProbe] = {}
    for index, table in enumerate(tables):
        try:
            probe = _decode(table)
            probe.validate()
            if probe.name in probes:
                raise FieldError("name", f"two probes are called {probe.name!r}", "Give each its own name.")  # noqa: TRY301
        except FieldError as error:
            raise error.within(table_place("probes", index, table)) from error
        probes[probe.name] = probe
    return tuple(probes.values())


def _decode(table: Mapping[str, Any]) -> BaseProbe:
    fields = dict(table)
    kind = fields.pop("kind", None)
    known = f"Kinds: {', '.join(sorted(kinds()))}."
    if kind is None:
        raise FieldError("kind", "this field is required", known)
    if not isinstance(kind, str) or kind not in kinds():
        raise FieldError("kind", f"there is no such kind: {kind!r}", known)
    return convert(fields, kinds()[kind])


class Prober:
    """The probes of whatever policy it is asked about."""

    def __init__(self, tools: ProbeTools) -> None:
        self._tools = tools
        self._last: tuple[Policy | None, dict[str, BaseProbe]] = (None, {})

    def from_policy(self, policy: Policy) -> dict[str, BaseProbe]:
        """A policy's probes by name; raises PolicyError."""
        if self._last[0] is not policy:
            # A policy on file was checked by the version that read it: what this one refuses, it still asks.
            self._last = (policy, {probe.name: probe for probe in map(_decode, policy.probes)})
        return self._last[1]

    def probes_for(self, policy: Policy, account: str, user: str) -> tuple[str, ...]:
        """The names of the probes that cover a user."""
        return tuple(
            name for name, probe in sorted(self.from_policy(policy).items()) if probe.covers(account, user)
        )

    def interval(self, policy: Policy, name: str) -> timedelta:
        """How often a probe is asked."""
        return self.from_policy(policy)[name].every

    def deadline(self, policy: Policy, name: str) -> float:
        """Seconds after which a probe that was asked counts as not answering: its time limit and some more."""
        return self.from_policy(policy)[name].timeout + _KILL_AFTER

    def check(self, policy: Policy, name: str) -> ProbeResult:
        """Ask one probe now."""
        try:
            reading = self.from_policy(policy)[name].check(self._tools)
        except SparekeyError as error:
            return ProbeResult(None, shorten_output(error.message))
        return ProbeResult(reading.healthy, shorten_output(reading.output))
