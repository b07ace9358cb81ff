"""One function per verb: what the command line, the console and the workers all call."""

from collections.abc import Callable
from pathlib import Path

from sparekey.aws.client import Gateway
from sparekey.clock import Clock, SystemClock
from sparekey.home import load_policy
from sparekey.policy import Policy

OnProgress = Callable[[int, int | None], None]


class App:
    """What every verb needs: whom to ask, by which policy, at what time."""

    def __init__(self, gateway: Gateway, policy: Policy, clock: Clock) -> None:
        self.gateway = gateway
        self.policy = policy
        self.clock = clock


def connect(
    *,
    profile: str | None = None,
    region: str | None = None,
    config: Path | None = None,
    clock: Clock | None = None,
) -> App:
    """Read the policy and find the credentials; nothing is asked of AWS yet."""
    policy = load_policy(config)
    clock = clock or SystemClock()
    return App(Gateway.connect(profile=profile, region=region, clock=clock), policy, clock)
