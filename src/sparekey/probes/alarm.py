"""A CloudWatch alarm: green in the states that the policy names."""

from sparekey.policy import PolicyError
from sparekey.probes import Common, Reading, Tools

_STATES = ("OK", "ALARM", "INSUFFICIENT_DATA")


class Probe(Common, frozen=True, kw_only=True):
    """`alarm` is the name of an alarm in `region` of `in_account` (the credentials' own where empty)."""

    alarm: str
    region: str
    in_account: str = ""
    green: tuple[str, ...] = ("OK",)

    def check(self) -> None:
        """Raise PolicyError for a state that CloudWatch does not have."""
        super().check()
        unknown = sorted(set(self.green) - set(_STATES))
        if unknown or not self.green:
            raise PolicyError(
                f"probe {self.name!r}: {', '.join(unknown) or 'nothing'} is no alarm state",
                f"The states are {', '.join(_STATES)}.",
            )

    def ask(self, tools: Tools) -> Reading:
        """Read its state; raises SparekeyError where it cannot be read."""
        if tools.alarm_state is None:
            return Reading(None, "CloudWatch cannot be read from here")
        state = tools.alarm_state(self.in_account, self.region, self.alarm)
        return Reading(state in self.green, f"the alarm is {state}")
