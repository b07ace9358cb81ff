"""What a kind of probe is: a module here with a class that extends `BaseProbe`, named by `PROBE`.

Its fields are the fields of `[[probes]]` in the policy, its name there is the module's.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Protocol

from sparekey.errors import SparekeyError
from sparekey.formatting import clean_line
from sparekey.model import Value
from sparekey.policy import FieldError, Scope, Span, check_scope

OUTPUT_LIMIT = 200
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


class ProbeModule(Protocol):
    """A module of this folder."""

    PROBE: type[BaseProbe]
