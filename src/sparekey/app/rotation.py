"""What a rotation is given to work with: the ways to its destinations, and to who uses a key."""

import os

from sparekey.app.connection import Connection
from sparekey.app.usage_reading import read_usage_of_accounts
from sparekey.aws.accounts import Target
from sparekey.aws.errors import AwsError
from sparekey.aws.gateway import AccountGateway
from sparekey.decision import DecisionContext
from sparekey.errors import BadInputError, RefusedError
from sparekey.handover import HandoverError, Handovers, HandoverTools
from sparekey.model import Caller, Usage, User, Value
from sparekey.plan import Plan, Step
from sparekey.policy import Policy
from sparekey.rotation import is_due
from sparekey.usage import UsageRequest


def handovers(connection: Connection) -> Handovers:
    """Where new keys are put, with this connection's credentials."""

    def enter(role: str) -> AccountGateway:
        return connection.gateway.enter(Target(role.split(":")[4], roles=(role,)))

    return Handovers(lambda account: HandoverTools(connection.account(account), enter, os.environ))


def read_key_usage(
    connection: Connection, policy: Policy, account: str, keys: tuple[str, ...]
) -> tuple[Usage, ...]:
    """Who used keys of one account, by the policy's usage source; raises SparekeyError."""
    return read_usage_of_accounts(policy.usage_source, {account: keys}, UsageRequest(), connection)


def check_handovers(connection: Connection, plan: Plan) -> tuple[str, ...]:
    """Ask every destination of a plan whether it can take a key; writes nothing.

    Returns what could not be checked. Raises RefusedError with what stands in the way.
    """
    if not plan.rotations:
        return ()
    unchecked: list[str] = []
    problems: list[str] = []
    service = handovers(connection)
    for step in plan.rotations:
        try:
            unchecked += service.check(
                connection.policy, step.account, step.user, step.preconditions.statuses
            )
        except (HandoverError, AwsError) as error:
            hint = f" ({error.hint})" if isinstance(error, HandoverError) and error.hint else ""
            problems.append(f"{_user(step)}: {error.message}{hint}")
    if problems:
        more = f"; and {len(problems) - 5:,} more like it" if len(problems) > 5 else ""
        raise RefusedError(
            "; ".join(problems[:5]) + more,
            "No key was created. `sparekey rotate --check` asks the same again.",
        )
    return tuple(dict.fromkeys(unchecked))


def is_rotatable(connection: Connection, account: str, user: User) -> bool:
    """True where policy says where a new key of the user is put, and none of the active ones is young."""
    context = DecisionContext(connection.policy, connection.clock.now(), Caller(account, ""))
    return connection.policy.handover_of(account, user.name) is not None and is_due(account, user, context)


class HandoverCheck(Value, frozen=True):
    """What a test of one user's handover came to."""

    account: str
    user: str
    store: str
    ready: bool
    text: str


def check_each_handover(connection: Connection, user: str = "") -> tuple[HandoverCheck, ...]:
    """Test the handover of every user that one covers, or of one (NAME or ACCOUNT/NAME); no key is created.

    Raises BadInputError where there is no such user or no handover covers it, AwsError where users cannot be listed.
    """
    service, checks, known = handovers(connection), [], False
    for target in connection.selected_accounts().targets:
        gateway = connection.gateway.enter(target)
        for listed in gateway.list_users():
            if user not in ("", listed.name, f"{target.id}/{listed.name}"):
                continue
            known = True
            handover = connection.policy.handover_of(target.id, listed.name)
            if handover is None:
                if not user:
                    continue
                raise BadInputError(
                    f"no [[handover]] of the policy covers user {listed.name}",
                    "docs/how-to/rotate.md shows how to write one.",
                )
            try:
                keys = [key.id or "" for key in gateway.list_keys(listed.name)]
                notes = service.rehearse(connection.policy, target.id, listed.name, keys)
            except (HandoverError, AwsError) as error:
                text = f"{error.message} ({error.hint})" if error.hint else error.message
                checks.append(HandoverCheck(target.id, listed.name, handover.store, ready=False, text=text))
            else:
                text = "; ".join(("ready", *(f"not checked: {note}" for note in notes)))
                checks.append(HandoverCheck(target.id, listed.name, handover.store, ready=True, text=text))
    if user and not known:
        raise BadInputError(
            f"there is no IAM user {user!r}", "Names are case-sensitive; NAME or ACCOUNT/NAME."
        )
    return tuple(checks)


def _user(step: Step) -> str:
    return f"{step.account}/{step.user}"
