"""The verbs that read: audit, plan, root keys, and the policies that say what reading and writing need."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import msgspec

from sparekey import audit as reading
from sparekey import planner
from sparekey import rules as judging
from sparekey.app.connection import Connection, OnProgress, ignore_progress
from sparekey.app.usage_reading import contested_keys, read_usage_of_accounts
from sparekey.audit import ReadMode
from sparekey.aws import iam_policies
from sparekey.aws.accounts import Target
from sparekey.aws.errors import AwsError
from sparekey.decision import NO_OVERRIDES, DecisionContext, Overrides
from sparekey.errors import BadInputError
from sparekey.model import Audit, RootKeys, Snapshot, Unreadable
from sparekey.plan import Plan
from sparekey.settings import load_policy
from sparekey.usage import UsageRequest


def read_snapshot(
    connection: Connection,
    *,
    mode: ReadMode = "auto",
    every_last_use: bool = False,
    fresh: bool = True,
    quarantine: bool = True,
    root: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> Snapshot:
    """Read every user and key; the last use of the keys of users with spare keys, or of all users.

    `mode`: "list" asks for each user's keys, "report" takes the credential report and lists afresh who
    matters, "auto" does the latter for more than 20 users. `fresh` asks IAM even where the report has a
    last use. `quarantine` asks whom AWS has quarantined for a leaked key, `root` the credential report for
    the root user's keys.
    """
    selection = connection.selected_accounts()
    return reading.audit(
        [connection.gateway.enter(target) for target in selection.targets],
        connection.clock,
        caller=connection.caller(),
        read=mode,
        need_last_use="all" if every_last_use else "spare",
        fresh=fresh,
        quarantine=quarantine,
        root=root,
        skipped=selection.skipped,
        on_event=_ProgressCounter(on_progress),
    )


class _ProgressCounter:
    """Turns the events of a reading into "so many users of so many"."""

    def __init__(self, tell: OnProgress) -> None:
        self._tell = tell
        self._done = 0
        self._known: dict[str, tuple[int, bool]] = {}

    def __call__(self, event: reading.AuditEvent) -> None:
        if isinstance(event, reading.UsersListed):
            self._known[event.account] = (event.users, event.whole)
        elif isinstance(event, reading.UserRead):
            self._done += 1
        whole = self._known and all(whole for _, whole in self._known.values())
        self._tell(self._done, sum(users for users, _ in self._known.values()) if whole else None)


def audit(
    connection: Connection,
    *,
    mode: ReadMode = "auto",
    rules: Collection[str] = (),
    cis: str = "",
    on_progress: OnProgress = ignore_progress,
) -> Audit:
    """Ask the rules (the control itself where none is named) of all that can be read."""
    names = tuple(rules) or (judging.DEFAULT_RULE,)
    overrides = [judging.rule(name)[0] for name in names]
    if cis:
        for rule in overrides:
            rule.cis_number(cis)
    if mode == "auto" and any(rule.needs == "age" for rule in overrides):
        mode = "list"  # the credential report proves no age
    needs = {rule.needs for rule in overrides}
    snapshot = read_snapshot(
        connection,
        mode=mode,
        every_last_use="last_use" in needs,
        fresh=False,
        quarantine="quarantine" in needs,
        root="summary" in needs,
        on_progress=on_progress,
    )
    return judging.assess(snapshot, connection.policy, connection.clock.now(), names, cis)


FOUND = judging.FOUND


def exit_code(audit: Audit) -> int:
    """4 where anything could not be read, else 3 where a rule failed, else 0."""
    return judging.exit_code(audit)


def plan(
    connection: Connection,
    *,
    mode: ReadMode = "auto",
    overrides: Overrides = NO_OVERRIDES,
    users: Collection[str] = (),
    exclude: Collection[str] = (),
    usage: str = "",
    usage_request: UsageRequest | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Plan:
    """Decide on every user, or on those named; raises BadInputError for a name that no user has.

    `usage` is the usage source that contested keys are looked up in: history, archive=PLACE, athena=TABLE.
    """
    if overrides.rotate:
        # The credential report proves no age, and one old key is enough to be rotated.
        snapshot = read_snapshot(connection, mode="list", every_last_use=True, on_progress=on_progress)
    else:
        snapshot = read_snapshot(connection, mode=mode, on_progress=on_progress)
    named = _only_users(snapshot, users, exclude)
    context = DecisionContext(connection.policy, connection.clock.now(), snapshot.caller, overrides)
    decisions = planner.decide_users(snapshot, context, lambda account, name: (account, name) in named)
    if usage:
        keys = contested_keys(decisions)
        usages = read_usage_of_accounts(usage, keys, usage_request or UsageRequest(), connection)
        context = msgspec.structs.replace(context, usages=planner.usage_by_key(usages))
        decisions = planner.decide_with_usages(decisions, context)
    return planner.assemble(snapshot, context, decisions)


def _only_users(
    snapshot: Snapshot, users: Collection[str], exclude: Collection[str]
) -> frozenset[tuple[str, str]]:
    """Who is meant, as (account, name), by NAME or ACCOUNT/NAME; raises BadInputError for who is nobody."""
    known = [(account.id, user.name) for account, user in snapshot.users()]
    unread = any(isinstance(account.users, Unreadable) for account in snapshot.accounts)
    labels = {name for _, name in known} | {f"{account}/{name}" for account, name in known}
    for name in (*users, *exclude):
        if name not in labels and not unread:
            raise BadInputError(
                f"there is no IAM user {name!r}",
                "Names are case-sensitive, without a path; NAME or ACCOUNT/NAME.",
            )

    def among(names: Collection[str], account: str, name: str) -> bool:
        return name in names or f"{account}/{name}" in names

    return frozenset(
        candidate
        for candidate in known
        if (not users or among(users, *candidate)) and not among(exclude, *candidate)
    )


def root_keys(connection: Connection) -> tuple[RootKeys, ...]:
    """Ask every account for its root user's keys; with centralized root access, which keys they are.

    Elsewhere the credential report has their number, age and last use, and no id.

    Sorted by account. One account's failure stops no other.
    """
    selection = connection.selected_accounts()
    own = connection.gateway.account
    with ThreadPoolExecutor(_ROOT_WORKERS, thread_name_prefix="root-keys") as crew:
        return tuple(crew.map(lambda target: _root_keys(connection, target, own), selection.targets))


_ROOT_WORKERS = 16


def _root_keys(connection: Connection, target: Target, own: str) -> RootKeys:
    account = connection.gateway.enter(target)
    try:
        present = account.root_keys()
    except AwsError as error:
        return RootKeys(target.id, target.name, Unreadable("root keys", error.message, error.code))
    if not present:
        return RootKeys(target.id, target.name, 0)
    unread = Unreadable("root keys", "AWS lets only the root user itself list the root keys of this account")
    if target.id != own:
        try:
            return RootKeys(target.id, target.name, present, connection.gateway.list_root_keys(target.id))
        except AwsError as error:
            unread = Unreadable("root keys", error.message, error.code)
    try:
        report_count = account.credential_report().root_keys
    except AwsError:
        return RootKeys(target.id, target.name, present, unread)
    return RootKeys(target.id, target.name, present, report_count or unread)


def iam_policy(
    kind: Literal["audit", "apply", "rotate", "delete", "stackset"],
    *,
    organization: bool = False,
    config: Path | None = None,
) -> dict[str, Any]:
    """The least IAM policy for a job, or the CloudFormation template of the member roles.

    That for rotating names the stores of the policy's handovers.
    """
    match kind:
        case "audit":
            return iam_policies.audit_policy(organization=organization)
        case "apply":
            return iam_policies.apply_policy(organization=organization)
        case "rotate":
            places = [
                place for entry in load_policy(config).handover for place in (entry.store, *entry.copies)
            ]
            return iam_policies.rotate_policy(places, organization=organization)
        case "delete":
            return iam_policies.delete_policy(organization=organization)
        case "stackset":
            return iam_policies.stackset_template()
