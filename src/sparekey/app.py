"""One function per verb: what the command line, the console and the workers all call."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TextIO

import msgspec

from sparekey import audit as reading
from sparekey import guards
from sparekey import plan as planning
from sparekey import rules as judging
from sparekey.aws.errors import NotFoundError
from sparekey.aws.gateway import AccountGateway, Gateway
from sparekey.choose import NOTHING_ASKED as NOTHING_ASKED
from sparekey.choose import Asked as Asked  # what the verbs speak in, for who renders and parses
from sparekey.clock import Clock, SystemClock
from sparekey.errors import BadInputError, RefusedError, SparekeyError
from sparekey.guards import Limits as Limits
from sparekey.home import home, load_policy
from sparekey.ledger import Entry as Entry
from sparekey.model import Account, Audit, Caller, RunRecord, Snapshot, Unreadable, Usage, Value
from sparekey.plan import Plan as Plan
from sparekey.plan import Step as Step
from sparekey.policy import Policy
from sparekey.run.reverse import reverse_commands
from sparekey.run.runs import Runs
from sparekey.run.state import State

OnEvent = Callable[[Entry], None]
DEFAULT_LIMITS = Limits()
OnProgress = Callable[[int, int | None], None]


def _silent(_done: int, _total: int | None) -> None:
    """Nobody watches."""


def _unheard(_entry: Entry) -> None:
    """Nobody listens."""


class App:
    """What every verb needs: whom to ask, by which policy, at what time."""

    def __init__(
        self, gateway: Gateway, policy: Policy, clock: Clock, *, profile: str = "", region: str = ""
    ) -> None:
        self.gateway = gateway
        self.policy = policy
        self.clock = clock
        self.profile = profile
        self.region = region

    def account(self, account: str) -> AccountGateway:
        """The way into one account; raises RefusedError for one that these credentials do not reach."""
        own = self.gateway.own_account()
        if account != own.account_id:
            raise RefusedError(
                f"account {account} cannot be reached with credentials of account {own.account_id}",
                "Use credentials of that account.",
            )
        return own


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
    gateway = Gateway.connect(profile=profile, region=region, clock=clock)
    return App(gateway, policy, clock, profile=profile or "", region=region or "")


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


def exit_code(audit: Audit) -> int:
    """4 where anything could not be read, else 3 where a rule failed, else 0."""
    return judging.exit_code(audit)


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
    return decide(
        app, snapshot, asked=asked, wanted=lambda _account, name: name in wanted and name not in exclude
    )


def decide(
    app: App,
    snapshot: Snapshot,
    *,
    asked: Asked = NOTHING_ASKED,
    usages: Iterable[Usage] = (),
    wanted: Callable[[str, str], bool] = lambda _account, _name: True,
) -> Plan:
    """Decide on what was read already, for every user (account, name) that is wanted; AWS is not asked."""
    return planning.make(snapshot, app.policy, app.clock.now(), asked=asked, usages=usages, wanted=wanted)


def reread(app: App, audit: Audit, users: Collection[tuple[str, str]]) -> Audit:
    """The audit with these users (account, name) read again now; who is gone drops out. Raises AwsError."""
    accounts = tuple(_reread(app, account, users) for account in audit.snapshot.accounts)
    snapshot = msgspec.structs.replace(audit.snapshot, accounts=accounts)
    return judging.assess(snapshot, app.policy, app.clock.now(), audit.rules, audit.cis)


def _reread(app: App, account: Account, users: Collection[tuple[str, str]]) -> Account:
    if isinstance(account.users, Unreadable):
        return account
    seen = []
    for user in account.users:
        if (account.id, user.name) in users:
            try:
                seen.append(
                    reading.read_user(app.account(account.id), user.name, arn=user.arn, created=user.created)
                )
            except NotFoundError:
                continue
        else:
            seen.append(user)
    return msgspec.structs.replace(account, users=tuple(seen))


def encode_plan(plan: Plan) -> bytes:
    """A plan's file."""
    return planning.encode(plan)


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


class Preflight(Value, frozen=True):
    """What is known before the first write: who writes, what could not be asked, how to go back by hand."""

    caller: Caller
    unchecked: tuple[Unreadable, ...]
    reverse: tuple[str, ...]
    resumes: bool


_WRITER_NEEDS = ("iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "iam:UpdateAccessKey")


def preflight(app: App, plan: Plan, limits: Limits = DEFAULT_LIMITS) -> Preflight:
    """Ask everything that would stop a plan; raises PlanError or RefusedError, and writes nothing.

    A run of the same plan that was cut off goes on even if the plan has expired since: its age was asked
    when it began, and each user is read and decided on again.
    """
    caller = app.gateway.caller()
    with _runs(app, caller) as runs:
        record = runs.begun(plan)
    if record is None:
        planning.check_usable(plan, caller, app.policy, app.clock.now())
    guards.refuse(plan, caller, limits)
    unchecked = _permissions(app, plan)
    return Preflight(caller, unchecked, _reverse(app, plan), resumes=record is not None)


def _permissions(app: App, plan: Plan) -> tuple[Unreadable, ...]:
    denied: list[str] = []
    unchecked: list[Unreadable] = []
    by_account: dict[str, set[str]] = {}
    for step in plan.deactivations:
        by_account.setdefault(step.account, set()).add(step.preconditions.arn)
    for account, arns in sorted(by_account.items()):
        match app.account(account).simulate(_WRITER_NEEDS, sorted(arns)):
            case Unreadable() as unread:
                unchecked.append(unread)
            case actions:
                denied += [f"{action} in account {account}" for action in actions]
    if denied:
        raise RefusedError(
            f"these credentials lack {', '.join(denied)}",
            "`sparekey iam-policy apply` prints the least policy that a run needs. Nothing was changed.",
        )
    return tuple(unchecked)


def apply(
    app: App, plan: Plan, *, limits: Limits = DEFAULT_LIMITS, on_event: OnEvent = _unheard
) -> RunRecord:
    """Carry out a plan, or go on with it where it was cut off; everything is asked again first."""
    checked = preflight(app, plan, limits)
    with _runs(app, checked.caller) as runs:
        return runs.apply(plan, app.policy, reverse=checked.reverse, on_event=on_event)


def undo(app: App, run: str, *, key: str = "", on_event: OnEvent = _unheard) -> RunRecord:
    """Reactivate what a run deactivated, all of it or one key; never waits for anything."""
    with _runs(app, app.gateway.caller()) as runs:
        return runs.undo(run, key, on_event=on_event)


def runs(clock: Clock | None = None) -> tuple[RunRecord, ...]:
    """Every run, oldest first; AWS is not asked."""
    with _told(clock) as told:
        return told.list()


def show(run: str, clock: Clock | None = None) -> RunRecord:
    """One run as its ledger tells it; AWS is not asked."""
    with _told(clock) as told:
        return told.show(run)


@contextmanager
def _runs(app: App, caller: Caller) -> Iterator[Runs]:
    with closing(_state()) as state:
        yield Runs(state, app.clock, app.account, caller)


@contextmanager
def _told(clock: Clock | None) -> Iterator[Runs]:
    """The runs for who only reads of them: no credentials, and no account that could be entered."""

    def no_account(account: str) -> AccountGateway:
        raise SparekeyError(f"account {account} is not needed to read of a run")

    with closing(_state()) as state:
        yield Runs(state, clock or SystemClock(), no_account, Caller("", ""))


def _state() -> State:
    return State(home(), os.environ.get("SPAREKEY_DATABASE_URL", ""))


def _reverse(app: App, plan: Plan) -> tuple[str, ...]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_IAM") or os.environ.get("AWS_ENDPOINT_URL", "")
    return reverse_commands(plan, profile=app.profile, region=app.region, endpoint_url=endpoint)


def sandbox(scenario: Path | None, port: int, out: TextIO) -> None:
    """Serve the practice AWS until interrupted; raises BadInputError for a scenario that cannot be read."""
    from sparekey.sandbox import SandboxError, serve  # noqa: PLC0415  # an extra: nobody else needs it

    try:
        serve(scenario, port, out)
    except SandboxError as error:
        raise BadInputError(str(error), error.hint) from error


@contextmanager
def practice() -> Iterator[None]:
    """Point this process at the practice company, in a state directory that lasts as long; for `--demo`."""
    from sparekey.demo import practice as served  # noqa: PLC0415  # needs the sandbox's extra

    before = dict(os.environ)
    with served() as (_folder, env):
        os.environ.clear()
        os.environ.update(env)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def demo() -> Iterator[str]:
    """The whole job on the practice AWS, stage by stage."""
    from sparekey.demo import demo as stages  # noqa: PLC0415  # needs the sandbox's extra

    yield from stages()
