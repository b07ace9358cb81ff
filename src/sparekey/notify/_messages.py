"""The messages: a summary of an audit or a run, and each automatic rollback; never a secret."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from sparekey.formatting import clean, clean_line, number, plural
from sparekey.model import Audit, RunRecord, StepRecord, Value
from sparekey.states import step_label

_LONGEST = 20
_URGENT = ("rollback_failed", "failed", "in_doubt", "rolled_back", "stalled", "orphaned")
_SUBJECT = 200  # characters


class Message(Value, frozen=True):
    """One message: a subject of one line, a text of several, and the same as `data` for machines."""

    subject: str
    text: str
    event: Literal["audit", "run", "rollback", "rollback-failed", "rotation", "state"]
    urgent: bool
    data: Mapping[str, str | int]


def of_audit(audit: Audit) -> Message:
    """How many users have spare keys, and in which accounts."""
    coverage = audit.coverage
    users = (
        f"{plural(coverage.users_read, 'user')} read, {number(coverage.users_unreadable)} could not be read"
    )
    accounts = f"{plural(coverage.accounts_read, 'account')} read, {number(coverage.accounts_unreadable)} could not be"
    lines = [
        f"{users}; {accounts}.",
        f"{number(coverage.users_spare)} have spare access keys, {number(coverage.users_exempt)} of all are exempt.",
    ]
    spare = Counter(
        account.account.id
        for account in audit.accounts
        for user in account.users
        if len(user.user.active_keys) > 1
    )
    lines += _limit_lines([f"{account}: {plural(count, 'user')}" for account, count in sorted(spare.items())])
    subject = f"sparekey audit: {plural(coverage.users_spare, 'user')} with spare access keys"
    data = {name: getattr(coverage, name) for name in coverage.__struct_fields__}
    return Message(subject, clean("\n".join(lines)), "audit", False, data)


def of_run(record: RunRecord) -> Message:
    """What became of the steps of a run, and of which it needs a person."""
    counts = Counter(step.state for step in record.steps)
    counted = ", ".join(f"{number(count)} {step_label(state)}" for state, count in sorted(counts.items()))
    urgent = [step for step in record.steps if step.state in _URGENT or step.not_reactivated]
    lines = [
        f"{counted}.",
        f"By {record.caller}; ledger head {record.head}.",
        *_limit_lines([_line(step) for step in urgent]),
    ]
    subject = f"sparekey run {record.id}: {record.state.replace('_', ' ')}"
    data: dict[str, str | int] = {"run": record.id, "state": record.state, "head": record.head}
    data.update(counts.items())
    return Message(clean_line(subject, _SUBJECT), clean("\n".join(lines)), "run", bool(urgent), data)


def of_rollback(record: RunRecord, step: StepRecord) -> Message:
    """One automatic rollback; a failed or barred one, where a person must act now; or a rotation that needs one."""
    if step.state in ("stalled", "orphaned"):
        return _of_rotation(record, step)
    failed = step.state == "rollback_failed"
    did = "did not reactivate" if step.not_reactivated and step.state != "rolled_back" else "reactivated"
    subject = f"sparekey {did} {step.key} of {step.user} in {step.account}"
    if failed:
        subject = f"ROLLBACK FAILED: {step.key} of {step.user} in {step.account} is still inactive"
    text = f"{step.why or step.decided}\nRun {record.id}; sparekey show {record.id} shows all of it."
    if step.state != "rolled_back":
        text += f"\nTo reactivate it yourself: sparekey undo {record.id} --key {step.key}"
    data: dict[str, str | int] = {
        "run": record.id,
        "account": step.account,
        "user": step.user,
        "key": step.key,
        "why": clean(step.why),
    }
    return Message(
        clean_line(subject, _SUBJECT), clean(text), "rollback-failed" if failed else "rollback", True, data
    )


def _of_rotation(record: RunRecord, step: StepRecord) -> Message:
    """The applications of a user have not moved in time, or a new key's secret was lost."""
    new = step.rotation.new_key if step.rotation else ""
    subject = f"NEW KEY LOST: {new} of {step.user} in {step.account} is deactivated"
    if step.state == "stalled":
        subject = f"sparekey: applications of {step.user} in {step.account} have not moved to {new}"
    lines = [step.why or step.decided, *([f"To release: {step.release}"] if step.release else [])]
    lines += _limit_lines(
        [f"Not moved: {consumer}" for consumer in (step.rotation.waiting if step.rotation else ())]
    )
    lines.append(f"Run {record.id}; sparekey show {record.id} shows all of it.")
    data: dict[str, str | int] = {
        "run": record.id,
        "account": step.account,
        "user": step.user,
        "key": step.key,
        "new_key": new,
        "why": clean(step.why),
    }
    return Message(clean_line(subject, _SUBJECT), clean("\n".join(lines)), "rotation", True, data)


def of_state(host: str, text: str, watched: tuple[str, ...], unwatched: tuple[str, ...]) -> Message:
    """The state of a worker cannot be used, or can again: which runs are watched all the same, and which are not."""
    subject = f"sparekey on {host}: {text}"
    if unwatched:
        subject = f"NOT MONITORED: {', '.join(unwatched)}: the state of sparekey on {host} cannot be used"
    data: dict[str, str | int] = {
        "host": host,
        "why": clean(text),
        "watched": ", ".join(watched),
        "unwatched": ", ".join(unwatched),
    }
    return Message(clean_line(subject, _SUBJECT), clean(text), "state", True, data)


def _line(step: StepRecord) -> str:
    return f"{step.account} {step.user} {step.key}: {step_label(step.state)}: {step.why or step.decided}"


def _limit_lines(lines: list[str]) -> list[str]:
    """At most as many lines as a person reads; the last one counts the rest."""
    left = len(lines) - _LONGEST
    return [*lines[:_LONGEST], f"… and {number(left)} more"] if left > 0 else lines
