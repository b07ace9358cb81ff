"""One function per verb: what the command line, the console and the workers all call."""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TextIO

from sparekey import audit as reading
from sparekey import plan as planning
from sparekey import rules as judging
from sparekey.aws.gateway import Gateway
from sparekey.choose import NOTHING_ASKED, Asked
from sparekey.clock import Clock, SystemClock
from sparekey.errors import BadInputError, SparekeyError
from sparekey.home import load_policy
from sparekey.model import Audit, Snapshot, Unreadable
from sparekey.plan import Plan
from sparekey.policy import Policy

OnProgress = Callable[[int, int | None], None]


def _silent(_done: int, _total: int | None) -> None:
    """Nobody watches."""


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


def read(app: App, *, every_last_use: bool = False, on_progress: OnProgress = _silent) -> Snapshot:
    """Read every user and key; the last use of the keys of users with spare keys, or of all users."""
    count = _Counter(on_progress)
    return reading.audit(
        [app.gateway.own_account()],
        app.clock,
        caller=app.gateway.caller(),
        need_last_use="all" if every_last_use else "spare",
        on_event=count,
    )


class _Counter:
    """Turns the events of a reading into "so many users of so many"."""

    def __init__(self, tell: OnProgress) -> None:
        self._tell = tell
        self._done = 0
        self._known: dict[str, tuple[int, bool]] = {}

    def __call__(self, event: reading.Event) -> None:
        if isinstance(event, reading.UsersListed):
            self._known[event.account] = (event.users, event.whole)
        elif isinstance(event, reading.UserRead):
            self._done += 1
        whole = self._known and all(whole for _, whole in self._known.values())
        self._tell(self._done, sum(users for users, _ in self._known.values()) if whole else None)


def audit(
    app: App, *, rules: Collection[str] = (), cis: str = "", on_progress: OnProgress = _silent
) -> Audit:
    """Ask the rules (the control itself where none is named) of all that can be read."""
    names = tuple(rules) or (judging.DEFAULT_RULE,)
    asked = [judging.rule(name)[0] for name in names]
    if cis:
        for rule in asked:
            rule.cis_number(cis)
    every_last_use = any(rule.needs == "last_use" for rule in asked)
    snapshot = read(app, every_last_use=every_last_use, on_progress=on_progress)
    return judging.assess(snapshot, app.policy, app.clock.now(), names, cis)


def plan(
    app: App,
    *,
    asked: Asked = NOTHING_ASKED,
    users: Collection[str] = (),
    exclude: Collection[str] = (),
    on_progress: OnProgress = _silent,
) -> Plan:
    """Decide on every user, or on those named; raises BadInputError for a name that no user has."""
    snapshot = read(app, on_progress=on_progress)
    known = {user.name for _, user in snapshot.users()}
    unread = any(isinstance(account.users, Unreadable) for account in snapshot.accounts)
    for name in (*users, *exclude):
        if name not in known and not unread:
            raise BadInputError(f"there is no IAM user {name!r}", "Names are case-sensitive; without a path.")
    wanted = frozenset(users) or known
    return planning.make(
        snapshot,
        app.policy,
        app.clock.now(),
        asked=asked,
        wanted=lambda name: name in wanted and name not in exclude,
    )


def write_plan(plan: Plan, path: Path) -> None:
    """Write the plan's file, readable and writable by its owner alone, whole or not at all."""
    write_private(path, planning.encode(plan))


def read_plan(path: Path) -> Plan:
    """Read a plan's file; raises BadInputError or PlanError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(
            f"the plan {path} cannot be read: {error.strerror}", "Make one: sparekey plan -o plan.json"
        ) from error
    return planning.decode(content)


def write_private(path: Path, content: bytes) -> None:
    """Write a file with mode 0600 beside its place and move it there; raises SparekeyError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise SparekeyError(f"{path} cannot be written: {error.strerror}", "Name another file.") from error


def sandbox(scenario: Path | None, port: int, out: TextIO) -> None:
    """Serve the practice AWS until interrupted; raises BadInputError for a scenario that cannot be read."""
    from sparekey.sandbox import SandboxError, serve  # noqa: PLC0415  # an extra: nobody else needs it

    try:
        serve(scenario, port, out)
    except SandboxError as error:
        raise BadInputError(str(error), error.hint) from error


def demo() -> Iterator[str]:
    """The whole job on the practice AWS, stage by stage."""
    from sparekey.demo import demo as stages  # noqa: PLC0415  # needs the sandbox's extra

    yield from stages()
