"""What stands in the way of a job: identity, permissions, policy, state, worker, clock, one check each."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Literal

from sparekey.app.connection import Connection
from sparekey.app.run_records import own_state, run_records
from sparekey.aws.errors import AwsError, UnreachableError
from sparekey.errors import SparekeyError
from sparekey.formatting import moment, plural
from sparekey.model import Unreadable, Value
from sparekey.settings import load_policy, policy_file

CheckState = Literal["ok", "note", "problem"]
_READS = ("iam:ListUsers", "iam:ListAccessKeys", "iam:GetAccessKeyLastUsed")
_WRITES = ("iam:UpdateAccessKey",)
# AWS refuses a signature whose time is further off.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/signing-elements.html
_CLOCK_LIMIT = timedelta(minutes=5)


class Check(Value, frozen=True):
    """The result of one check: what was found, and what to do about it where something is to be done."""

    name: str
    state: CheckState
    found: str
    action: str = ""


def doctor(connect: Callable[[], Connection], config: Path | None) -> Iterator[Check]:
    """Yield each check as it is made; AWS is only read, and one that fails ends no other."""
    yield _policy(config)
    yield from _state()
    try:
        connection = connect()
        caller = connection.gateway.caller()
    except SparekeyError as error:
        yield Check("identity", "problem", error.message, error.hint)
        yield Check("permissions", "note", "not checked: there are no usable credentials")
        return
    yield Check("identity", "ok", f"{caller.arn}, account {caller.account}")
    yield _credentials(connection)
    yield _reachability(connection)
    yield _clock(connection)
    yield from _permissions(connection)


def _policy(config: Path | None) -> Check:
    try:
        policy, path = load_policy(config), policy_file(config)
    except SparekeyError as error:
        return Check("policy", "problem", error.message, error.hint)
    if not path.exists():
        return Check(
            "policy", "note", f"no file {path}: the defaults hold", "`sparekey config init` writes one."
        )
    probes = plural(len(policy.probes), "probe")
    hint = (
        ""
        if policy.probes
        else "Without [[probes]] a breakage is not detected: docs/explanation/running.md#probes."
    )
    return Check("policy", "ok" if policy.probes else "note", f"{path} is valid, {probes}", hint)


def _state() -> Iterator[Check]:
    try:
        with own_state() as state:
            state.check()
            where = "PostgreSQL" if state.shared else str(state.directory)
            open_runs = len(state.ledger.unfinished())
        yield Check("state", "ok", f"{where} can be read and written")
        with run_records() as runs:
            workers = runs.live_workers()
    except SparekeyError as error:
        yield Check("state", "problem", error.message, error.hint)
        return
    unfinished = f"{plural(open_runs, 'run')} unfinished"
    if workers:
        hosts = ", ".join(sorted({worker.host for worker in workers}))
        yield Check("worker", "ok", f"{plural(len(workers), 'worker')} alive on {hosts}; {unfinished}")
    elif open_runs:
        yield Check(
            "worker",
            "problem",
            f"no worker is alive; {unfinished}",
            "Start `sparekey worker`: only an `apply --wait` that still runs monitors them.",
        )
    else:
        yield Check("worker", "note", f"no worker is alive; {unfinished}", "`sparekey worker` monitors runs.")


def _credentials(connection: Connection) -> Check:
    ends = connection.gateway.credentials_expire_at()
    if ends is None:
        return Check("credentials", "ok", "do not expire, or can be renewed")
    return Check(
        "credentials",
        "note",
        f"cannot be renewed and end at {moment(ends)}",
        "Enough for audit, plan and apply. Give a worker a role that it can assume again.",
    )


def _reachability(connection: Connection) -> Check:
    """STS has answered for the identity; IAM is another endpoint, which may be in another region."""
    try:
        connection.gateway.own_account().alias()
    except UnreachableError as error:
        return Check(
            "reachability", "problem", error.message, "Check proxy, firewall, DNS and AWS_ENDPOINT_URL_IAM."
        )
    except AwsError:
        pass  # refused, so reached
    return Check("reachability", "ok", "STS and IAM answer")


def _clock(connection: Connection) -> Check:
    """Compare this machine's clock with AWS's, which answers within a second or two."""
    try:
        offset = connection.gateway.clock_offset()
    except AwsError as error:
        return Check("clock", "note", f"could not be compared: {error.message}")
    if offset is None:
        return Check("clock", "note", "could not be compared: the answers have no date")
    seconds = abs(offset.total_seconds())
    text = f"{seconds:.0f} s {'ahead of' if offset > timedelta(0) else 'behind'} AWS's"
    if abs(offset) >= _CLOCK_LIMIT:
        return Check(
            "clock", "problem", text, "Set the clock, for example by NTP: AWS refuses such signatures."
        )
    return Check("clock", "ok" if seconds < 30 else "note", text if seconds >= 2 else "agrees with AWS's")


def _permissions(connection: Connection) -> Iterator[Check]:
    own = connection.gateway.own_account()
    for name, actions, kind in (("read access", _READS, "audit"), ("write access", _WRITES, "apply")):
        answer = own.simulate(actions, ["*"])
        if isinstance(answer, Unreadable):
            yield Check(
                name,
                "note",
                f"could not be checked: {answer.why}",
                f"Compare with `sparekey iam-policy {kind}`.",
            )
        elif answer:
            yield Check(
                name,
                "problem" if kind == "audit" else "note",
                f"not allowed: {', '.join(answer)}",
                f"`sparekey iam-policy {kind}` prints what {kind} needs.",
            )
        else:
            yield Check(name, "ok", f"{', '.join(actions)}")
