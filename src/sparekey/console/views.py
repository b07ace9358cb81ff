"""What was read and decided, laid out for lists that are quick with thousands of users; pure."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Generic, Literal, TypeVar, get_args

import msgspec

from sparekey.app import Limits, Plan, Step
from sparekey.errors import BadInputError
from sparekey.model import AccessKey, Account, Audit, FindingStatus, Unreadable, User, UserVerdict, Value

PAGE = 50
UserId = tuple[str, str]
Show = Literal["spare", "deactivate", "held", "exempt", "unreadable", "all"]
SHOWS: Mapping[str, str] = {
    "spare": "with spare keys",
    "deactivate": "with a key that can be deactivated",
    "held": "with a key that is held",
    "exempt": "exempt by policy",
    "unreadable": "could not be read",
    "all": "all users",
}
AGES: Mapping[int, str] = {
    0: "any",
    90: "90 days or older",
    365: "a year or older",
    730: "two years or older",
}
Sort = Literal["", "user", "-user", "account", "-account", "active", "-active", "oldest", "-oldest"]
_SHOWS: tuple[Show, ...] = get_args(Show)
_SORTS: tuple[Sort, ...] = get_args(Sort)
_Item = TypeVar("_Item")


class UserRow(Value, frozen=True):
    """One user in a list; `oldest` is the creation of the oldest active key."""

    account: str
    alias: str
    name: str
    status: FindingStatus
    keys: tuple[AccessKey, ...]
    active: int
    oldest: datetime | None
    steps: tuple[Step, ...]
    why: str

    @property
    def id(self) -> UserId:
        """Account and name."""
        return self.account, self.name

    @property
    def deactivated(self) -> int:
        """How many keys can be deactivated."""
        return sum(step.action == "deactivate" for step in self.steps)

    @property
    def held(self) -> int:
        """How many keys are held."""
        return sum(step.action == "held" for step in self.steps)


class UserFilter(Value, frozen=True):
    """What a list is narrowed to and sorted by; `age` is in days, of the oldest active key; `-` sorts downwards."""

    q: str = ""
    account: str = ""
    show: Show = "spare"
    reason: str = ""
    age: int = 0
    page: int = 1
    sort: Sort = ""

    def query(self, **change: object) -> dict[str, str]:
        """The address parameters of this filter, or of one that differs."""
        plain = {**msgspec.structs.asdict(self), **change}
        return {
            name: str(value)
            for name, value in plain.items()
            if value != getattr(_EVERYTHING, name) or (name in change and name != "page")
        }


_EVERYTHING = UserFilter()


class ResultPage(Value, Generic[_Item], frozen=True):
    """One page of a list: its items, its number from 1, and the whole."""

    items: tuple[_Item, ...]
    number: int
    pages: int
    total: int


class AuditView(Value, frozen=True, gc=True):
    """One audit, the plan that would be made of it now, and both by user."""

    audit: Audit
    plan: Plan
    rows: tuple[UserRow, ...]
    by_user: Mapping[UserId, UserRow]
    users: Mapping[UserId, User]

    @property
    def active_keys(self) -> int:
        """How many active keys were read."""
        return sum(row.active for row in self.rows)

    def account(self, account: str) -> Account:
        """The account of a user that was read."""
        return next(account_ for account_ in self.audit.snapshot.accounts if account_.id == account)

    def user(self, user: UserId) -> User:
        """A user that was read; raises BadInputError."""
        if user in self.users:
            return self.users[user]
        raise BadInputError(
            f"no IAM user {user[1]!r} was read in account {user[0]}",
            "Read again: the user may be new, or gone.",
        )


def listed(user: User) -> tuple[AccessKey, ...]:
    """A user's keys; none where they could not be read."""
    return () if isinstance(user.keys, Unreadable) else user.keys


def audit_view(audit: Audit, plan: Plan) -> AuditView:
    """Lay out an audit and the plan for all of it."""
    steps: dict[UserId, list[Step]] = defaultdict(list)
    for step in plan.steps:
        steps[step.account, step.user].append(step)
    rows = tuple(
        _user_row(account.account, verdict, tuple(steps[account.account.id, verdict.user.name]))
        for account in audit.accounts
        for verdict in account.users
    )
    users = {(account.id, user.name): user for account, user in audit.snapshot.users()}
    return AuditView(audit, plan, rows, {row.id: row for row in rows}, users)


def _user_row(account: Account, verdict: UserVerdict, steps: tuple[Step, ...]) -> UserRow:
    user = verdict.user
    active = user.active_keys
    return UserRow(
        account=account.id,
        alias=account.alias,
        name=user.name,
        status=verdict.status,
        keys=listed(user),
        active=len(active),
        oldest=min((key.created for key in active if key.created), default=None),
        steps=steps,
        why=_row_reason(verdict, steps),
    )


def _row_reason(verdict: UserVerdict, steps: Sequence[Step]) -> str:
    if isinstance(verdict.user.keys, Unreadable):
        return verdict.user.keys.why
    if verdict.status in ("EXEMPT", "UNREADABLE"):
        return "; ".join(finding.message for finding in verdict.findings if finding.status == verdict.status)
    reasons = dict.fromkeys(step.why for step in steps)
    return "; ".join(reasons)


def filter_rows(rows: Iterable[UserRow], by: UserFilter, now: datetime) -> list[UserRow]:
    """The rows that a filter lets through, in order."""
    text = by.q.strip().casefold()
    before = now - timedelta(days=by.age)
    return [
        row
        for row in rows
        if _is_shown(row, by.show)
        and (not by.account or row.account == by.account)
        and (not by.reason or any(step.reason == by.reason for step in row.steps))
        and (not by.age or (row.oldest is not None and row.oldest <= before))
        and (not text or _matches(row, text))
    ]


def sort_rows(rows: Sequence[UserRow], sort: Sort) -> list[UserRow]:
    """The rows in the order asked for, by account and name where that leaves a tie."""
    column = sort.removeprefix("-")
    ordered = sorted(rows, key=lambda row: (row.account, row.name.casefold()))
    if not column:
        return list(rows)
    if column == "oldest":
        # A row without a date is last either way.
        dated = [(row.oldest, row) for row in ordered if row.oldest is not None]
        dated.sort(key=lambda pair: pair[0], reverse=sort == "oldest")
        return [row for _, row in dated] + [row for row in ordered if row.oldest is None]
    keys: dict[str, Callable[[UserRow], str | int]] = {
        "user": lambda row: row.name.casefold(),
        "account": lambda row: row.account,
        "active": lambda row: row.active,
    }
    return sorted(ordered, key=keys[column], reverse=sort.startswith("-"))


class HeldUser(Value, frozen=True):
    """A user's held keys, and each reason for which they are held: (reason, why, what would release them)."""

    account: str
    user: str
    keys: tuple[str, ...]
    reasons: tuple[tuple[str, str, str], ...]


def held_users(plan: Plan, reason: str = "") -> list[HeldUser]:
    """One row for each user with held keys, sorted; of one `reason`, or of any."""
    steps: dict[UserId, list[Step]] = defaultdict(list)
    for step in plan.held:
        if reason in ("", step.reason):
            steps[step.account, step.user].append(step)
    return [
        HeldUser(
            *who,
            tuple(sorted(step.key for step in of_user)),
            tuple(dict.fromkeys((step.reason, step.why, step.release) for step in of_user)),
        )
        for who, of_user in sorted(steps.items())
    ]


class ChosenUsers(Value, frozen=True):
    """The users who are chosen: their names, how many keys that would deactivate, and how many are allowed."""

    users: tuple[UserId, ...]
    keys: int
    allowed: int


def choice_of(view: "AuditView | None", chosen: Collection[UserId]) -> ChosenUsers:
    """What the chosen users come to, against the default limits of a run."""
    if view is None:
        return ChosenUsers(tuple(sorted(chosen)), 0, 0)
    keys = sum(view.by_user[who].deactivated for who in chosen if who in view.by_user)
    return ChosenUsers(tuple(sorted(chosen)), keys, Limits().allowed(view.active_keys))


AGE_BANDS: tuple[tuple[str, int, int], ...] = (
    ("under 90 days", 0, 90),
    ("90 to 179 days", 90, 180),
    ("180 to 364 days", 180, 365),
    ("1 to 2 years", 365, 730),
    ("2 years or more", 730, 10**6),
)


def key_ages(view: "AuditView", now: datetime) -> list[tuple[str, int]]:
    """How many active keys fall into each band of age; keys whose age was not read are the last one, if any."""
    ages = [
        (now - key.created).days if key.created else None
        for row in view.rows
        for key in row.keys
        if key.active
    ]
    bands = [
        (text, sum(age is not None and low <= age < high for age in ages)) for text, low, high in AGE_BANDS
    ]
    unknown = sum(age is None for age in ages)
    return [*bands, ("age not read", unknown)] if unknown else bands


def user_states(view: "AuditView") -> list[tuple[str, str, int]]:
    """How many users are in each state, as (tone, label, number); each user is counted once."""
    counts: Counter[str] = Counter()
    for row in view.rows:
        if row.status in ("UNREADABLE", "EXEMPT"):
            counts[row.status] += 1
        elif row.active > 1:
            counts["deactivate" if row.deactivated else "held"] += 1
        else:
            counts["one" if row.active else "none"] += 1
    labels = (
        ("one", "done", "one active key"),
        ("none", "off", "no active key"),
        ("deactivate", "go", "a key can be deactivated"),
        ("held", "held", "spare keys, all held"),
        ("EXEMPT", "warn", "exempt"),
        ("UNREADABLE", "bad", "could not be read"),
    )
    return [(tone, label, counts[name]) for name, tone, label in labels if counts[name]]


def _is_shown(row: UserRow, show: Show) -> bool:
    match show:
        case "spare":
            return row.active > 1
        case "deactivate":
            return row.deactivated > 0
        case "held":
            return row.held > 0
        case "exempt":
            return row.status == "EXEMPT"
        case "unreadable":
            return row.status == "UNREADABLE"
        case _:
            return True


def _matches(row: UserRow, text: str) -> bool:
    return text in row.name.casefold() or any(text in (key.id or "").casefold() for key in row.keys)


def reasons(plan: Plan) -> dict[str, int]:
    """Each reason code of a plan's steps and how many steps give it, sorted."""
    return dict(sorted(Counter(step.reason for step in plan.steps).items()))


def paginate(items: Sequence[_Item], number: int) -> ResultPage[_Item]:
    """The page of that number, or the nearest there is."""
    pages = max(1, -(-len(items) // PAGE))
    number = min(max(1, number), pages)
    return ResultPage(tuple(items[(number - 1) * PAGE : number * PAGE]), number, pages, len(items))


def parse_filter(query: Mapping[str, str]) -> UserFilter:
    """A filter from an address; what does not parse is as if it were not there."""
    show = query.get("show", "")
    age = _number(query.get("age", ""), 0)
    return UserFilter(
        q=query.get("q", "")[:200],
        account=query.get("account", ""),
        show=next((known for known in _SHOWS if known == show), "spare"),
        reason=query.get("reason", ""),
        age=age if age in AGES else 0,
        page=_number(query.get("page", ""), 1),
        sort=next((known for known in _SORTS if known == query.get("sort", "")), ""),
    )


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else default


def user_ids(values: Iterable[str]) -> set[UserId]:
    """Users named "account/name", as forms send them (no name has a slash in it)."""
    return {(account, name) for account, slash, name in (text.partition("/") for text in values) if slash}
