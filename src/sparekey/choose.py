"""Which of a user's active keys stays, and what becomes of the others; pure, at a given `now`.

The steps are numbered as in docs/lifecycle.md. Absence of evidence never authorises an action.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from sparekey import cutover
from sparekey.errors import SparekeyError
from sparekey.model import ACTIVE, AccessKey, Caller, Evidence, LastUsed, Usage, User, Value
from sparekey.policy import Policy
from sparekey.words import span

# SES SMTP passwords are derived from a key's secret: the application shows as nothing but `ses`.
# https://docs.aws.amazon.com/ses/latest/dg/smtp-credentials.html
_SMTP_SERVICE = "ses"
_SMTP_USERS = "ses-smtp-user."
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Asked(Value, frozen=True):
    """What a person overruled: keys named to stay, keys forced out with a reason, old keys allowed."""

    keep: tuple[str, ...] = ()
    force: Mapping[str, str] = {}
    keep_old: bool = False


NOTHING_ASKED = Asked()


class Deactivate(Value, frozen=True, tag="deactivate"):
    """This key can be switched off."""

    key: str
    reason: str
    why: str
    evidence: tuple[Evidence, ...] = ()


class Held(Value, frozen=True, tag="held"):
    """This key is left alone; `release` says what would let it go."""

    key: str
    reason: str
    why: str
    release: str
    evidence: tuple[Evidence, ...] = ()


Outcome = Deactivate | Held


class Choice(Value, frozen=True):
    """The key that stays (None where nothing can be said) and an outcome for each other active key."""

    user: str
    keep: str | None
    outcomes: tuple[Outcome, ...]


class _Key(Value, frozen=True):
    """An active key with all that a decision needs already read."""

    id: str
    key: AccessKey
    created: datetime
    young: bool
    settling: bool
    used: bool
    proven: bool

    @property
    def idle(self) -> bool:
        return not self.settling and not self.used


class _HoldError(SparekeyError):
    """Every key of the user is held, for one reason."""

    def __init__(self, reason: str, why: str, release: str) -> None:
        super().__init__(why)
        self.reason, self.release = reason, release


def choose(
    account: str,
    user: User,
    policy: Policy,
    now: datetime,
    *,
    asked: Asked,
    caller: Caller,
    usages: Mapping[str, Usage],
) -> Choice | None:
    """Decide on one user whose keys were listed; None where fewer than two keys are active."""
    active = user.active_keys
    if len(active) < 2:
        return None
    try:
        _refuse_whole_user(account, user, active, policy, caller)
        keys = _classify(active, policy, now, asked, usages)
        keep, outcomes = _decide(keys, policy, now, asked, usages)
    except _HoldError as hold:
        keep = None
        outcomes = {
            key.id: Held(key.id, hold.reason, hold.message, hold.release, facts(key, now))
            for key in active
            if key.id is not None
        }
        if hold.reason != "caller":
            keep = _force_while_held(active, outcomes, asked, now)
    ordered = tuple(outcomes[key.id] for key in sorted(active, key=_order) if key.id in outcomes)
    return Choice(user.name, keep, ordered)


def _order(key: AccessKey) -> str:
    return key.id or ""


def _refuse_whole_user(
    account: str, user: User, active: tuple[AccessKey, ...], policy: Policy, caller: Caller
) -> None:
    """Step 5 where it concerns the user, and what must have been read before anything can be said."""
    mine = account == caller.account and user.name in caller.users
    if mine or any(key.id in caller.keys for key in active):
        raise _HoldError(
            "caller",
            "sparekey is running with credentials of this user",
            "run it with credentials of another identity (a role, or another user)",
        )
    rotator = policy.rotator(account, user.name)
    if rotator:
        raise _HoldError(
            "rotator",
            f"policy says that {rotator.tool} manages this user's keys and needs two of them",
            f"remove the rotator entry for {rotator.user!r} from the policy",
        )
    if user.name.startswith(_SMTP_USERS):
        raise _HoldError(
            "smtp",
            "the name says that this user's keys are SMTP passwords for SES",
            "move the mail senders to one key's SMTP password, then --force the other key",
        )
    for key in active:
        if key.id is None or key.created is None:
            raise _HoldError(
                "not-listed", "the keys of this user were not listed", "plan again: it lists them"
            )
        if key.status != ACTIVE:
            raise _HoldError(
                "unknown-status",
                f"{key.id} has the status {key.status!r}, which sparekey does not know",
                "look at the key in the IAM console; update sparekey if AWS has a new status",
            )


def _classify(
    active: tuple[AccessKey, ...], policy: Policy, now: datetime, asked: Asked, usages: Mapping[str, Usage]
) -> list[_Key]:
    """Name each key young, settling, used, proven; newest first. An unread last use holds the user."""
    keys = []
    for key in active:
        if key.last_used.state in ("not_read", "unreadable"):
            told = f": {key.last_used.why}" if key.last_used.why else ""
            raise _HoldError(
                "last-use-unread",
                f"the last use of {key.id} could not be read{told}",
                "allow iam:GetAccessKeyLastUsed and plan again",
            )
        if key.id is None or key.created is None:  # _refuse_whole_user has held such a user
            continue
        age = now - key.created
        used = key.last_used.at is not None and now - key.last_used.at < policy.quiet
        keys.append(
            _Key(
                id=key.id,
                key=key,
                created=key.created,
                young=age < policy.max_key_age or asked.keep_old,
                settling=age < policy.settle,
                used=used,
                proven=used and not _only_sts(key.last_used, usages.get(key.id)),
            )
        )
    return sorted(keys, key=lambda key: (key.created, key.id), reverse=True)


def _only_sts(last_used: LastUsed, usage: Usage | None) -> bool:
    """True where nothing but the minting of sessions shows: that proves a login, not an application."""
    if last_used.service != "sts":
        return False
    return usage is None or not any(
        use.service != "sts" and use.calls > use.errors
        for consumer in usage.consumers
        for use in consumer.uses
    )


def _decide(
    keys: list[_Key], policy: Policy, now: datetime, asked: Asked, usages: Mapping[str, Usage]
) -> tuple[str | None, dict[str, Outcome]]:
    keep = _kept(keys, asked)
    outcomes: dict[str, Outcome] = {}
    for key in keys:
        if key.id == keep.id:
            continue
        evidence = facts(keep.key, now) + facts(key.key, now)
        if key.id in asked.force:
            outcomes[key.id] = _forced(key.id, asked, evidence)
        else:
            outcomes[key.id] = _judge(key, keep, policy, now, usages, evidence)
    return keep.id, outcomes


def _kept(keys: list[_Key], asked: Asked) -> _Key:
    """Steps 1 to 4 and 6: the key that stays, or a hold on the whole user."""
    named = [key for key in keys if key.id in asked.keep]
    if len(named) > 1:
        raise _HoldError("keep-twice", "--keep names two keys of this user", "name one key that stays")
    if named:
        return named[0]
    candidates = [key for key in keys if key.id not in asked.force]
    if not any(key.young for key in candidates):
        raise _HoldError(
            "no-young-key",
            "no active key of this user is young enough to stay",
            "create a new key, move the applications to it, deactivate an old one; or plan with --keep-old",
        )
    proven = [key for key in candidates if key.young and key.proven]
    if proven:
        return proven[0]
    if any(key.used for key in candidates):
        raise _HoldError(
            "not-proven",
            "a key is in use, but no young key has been shown to work",
            "move the applications to the young key and plan again once its use shows; "
            "or say which key stays: --keep KEY",
        )
    if any(key.settling for key in candidates):
        raise _HoldError(
            "settling",
            "a key was created a short while ago and its use has not shown yet",
            "wait until the newest key has settled, then plan again; or say which key stays: --keep KEY",
        )
    return next(key for key in candidates if key.young)


def _judge(
    key: _Key,
    keep: _Key,
    policy: Policy,
    now: datetime,
    usages: Mapping[str, Usage],
    evidence: tuple[Evidence, ...],
) -> Outcome:
    """What becomes of one key beside the one that stays."""
    if key.key.last_used.service == _SMTP_SERVICE:
        return Held(
            key.id,
            "smtp",
            "last used for SES: its secret may be a mail server's password, whose use shows nowhere else",
            "find the mail senders that use it, then --force this key",
            evidence,
        )
    if key.settling:
        return Held(
            key.id,
            "settling",
            f"created {span(now - key.created)} ago: a rotation is under way",
            f"wait until it is {policy.settle} old; if it is the new key, move the applications to it",
            evidence,
        )
    if key.idle:
        if keep.used:
            why = f"not used in {policy.quiet}, while {keep.id} is"
        else:
            why = (
                f"no use of any key of this user was seen in {policy.quiet}; {keep.id} is the one that stays"
            )
        return Deactivate(key.id, "idle", why, evidence)
    match cutover.moved(key.key, keep.key, usages, policy, now):
        case cutover.Moved(why=why, evidence=shown):
            return Deactivate(key.id, "cutover", why, evidence + shown)
        case cutover.NotMoved(reason=reason, why=why, release=release, evidence=shown):
            return Held(key.id, reason, why, release, evidence + shown)


def _forced(key: str, asked: Asked, evidence: tuple[Evidence, ...]) -> Deactivate:
    because = asked.force[key]
    told = Evidence("--force", f"a person retires this key because: {because}", key)
    return Deactivate(key, "forced", f"forced: {because}", (*evidence, told))


def _force_while_held(
    active: Iterable[AccessKey], outcomes: dict[str, Outcome], asked: Asked, now: datetime
) -> str | None:
    """Step 6 for a user who is held whole: retire the forced keys if a key that works stays beside them."""
    forced = {key.id for key in active if key.id in asked.force and key.status == ACTIVE}
    rest = [key for key in active if key.id not in forced and key.status == ACTIVE and key.id]
    if not forced or not rest:
        return None
    keep = max(
        rest,
        key=lambda key: (
            key.id in asked.keep,
            key.last_used.at or _LONG_AGO,
            key.created or _LONG_AGO,
            _order(key),
        ),
    )
    for key in active:
        if key.id and key.id in forced:
            outcomes[key.id] = _forced(key.id, asked, facts(keep, now) + facts(key, now))
    outcomes.pop(keep.id or "", None)
    return keep.id


def facts(key: AccessKey, now: datetime) -> tuple[Evidence, ...]:
    """What IAM says of one key, as evidence."""
    name = key.id or ""
    age = f", {span(now - key.created)} old" if key.created else ""
    listed = Evidence("iam:ListAccessKeys", f"{key.status}{age}", name, key.created)
    used = key.last_used
    match used.state:
        case "used":
            ago = f" {span(now - used.at)} ago" if used.at else ""
            text = f"last used{ago} for {used.service} in {used.region}"
        case "never":
            text = "never used"
        case "not_read":
            text = "last use not read"
        case "unreadable":
            text = f"last use could not be read: {used.why}"
    return listed, Evidence("iam:GetAccessKeyLastUsed", text, name, used.at)
