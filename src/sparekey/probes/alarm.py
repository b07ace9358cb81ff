"""A CloudWatch alarm: healthy in the states that the policy names."""

import re

from sparekey.policy import FieldError
from sparekey.probes.interface import BaseProbe, ProbeResult, ProbeTools

_REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")
_STATES = ("OK", "ALARM", "INSUFFICIENT_DATA")


class AlarmProbe(BaseProbe, frozen=True, kw_only=True):
    """`alarm` is the name of an alarm in `region` of `in_account` (the credentials' own where empty)."""

    alarm: str
    region: str
    in_account: str = ""
    green: tuple[str, ...] = ("OK",)

    def validate(self) -> None:
        """Raise FieldError for a state, an account or a region that AWS cannot have."""
        super().validate()
        unknown = sorted(set(self.green) - set(_STATES))
        if unknown or not self.green:
            raise FieldError(
                "green",
                f"{', '.join(unknown) or 'nothing'} is no alarm state",
                f"The states are {', '.join(_STATES)}.",
            )
        if not self.alarm:
            raise FieldError("alarm", "it is empty")
        if not _REGION.fullmatch(self.region):
            raise FieldError("region", f"{self.region!r} is not a region such as eu-central-1")
        if self.in_account and not re.fullmatch("[0-9]{12}", self.in_account):
            raise FieldError("in_account", f"{self.in_account!r} is not an account id of twelve digits")

    def check(self, tools: ProbeTools) -> ProbeResult:
        """Read its state; raises SparekeyError where it cannot be read."""
        if tools.alarm_state is None:
            return ProbeResult(None, "CloudWatch cannot be read from here")
        state = tools.alarm_state(self.in_account, self.region, self.alarm)
        return ProbeResult(state in self.green, f"the alarm is {state}")


PROBE = AlarmProbe
