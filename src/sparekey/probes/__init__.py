"""Probes: health checks of the applications of some users; one module per kind (`interface.py` has its shape)."""

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any, cast

from sparekey.errors import SparekeyError
from sparekey.plugins import modules_in
from sparekey.policy import FieldError, Policy, convert, table_place
from sparekey.probes.interface import (
    OUTPUT_LIMIT,
    BaseProbe,
    ProbeModule,
    ProbeResult,
    ProbeTools,
    shorten_output,
)

__all__ = [
    "OUTPUT_LIMIT",
    "BaseProbe",
    "ProbeResult",
    "ProbeTools",
    "Prober",
    "kinds",
    "parse",
    "shorten_output",
]

_KILL_AFTER = 5.0


@cache
def kinds() -> Mapping[str, type[BaseProbe]]:
    """Every kind by its name."""
    return {
        name: cast("ProbeModule", module).PROBE for name, module in modules_in(__name__, __path__).items()
    }


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
