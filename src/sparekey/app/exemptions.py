"""Exemptions added, extended and ended in the policy file: proposed with a diff, then written as proposed."""

import difflib
import hashlib
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from sparekey.app.connection import Connection
from sparekey.app.output_files import write_private
from sparekey.errors import BadInputError, RefusedError
from sparekey.model import Value
from sparekey.settings import check_policy_text, load_policy, policy_file, read_policy_text


class ExemptionChange(Value, frozen=True, kw_only=True):
    """What to do: add an entry, extend one until another day, or end one now.

    `number` is an entry's position in the policy file, from 0; the other fields are those of `[[exempt]]`, as a person
    wrote them.
    """

    action: Literal["add", "extend", "end"]
    number: int = -1
    user: str = ""
    account: str = ""
    owner: str = ""
    reason: str = ""
    expires: str = ""


class ProposedPolicy(Value, frozen=True):
    """A policy file as it would be: its text, the difference as a unified diff, and which file it was made from."""

    path: Path
    text: str
    diff: str
    digest: str


def propose_exemption(connection: Connection, change: ExemptionChange) -> ProposedPolicy:
    """The policy file with one change; nothing is written. Raises BadInputError, and PolicyError for what is invalid.

    Comments and the order of the file are preserved. Raises RefusedError where the file has another policy than the
    connection: an entry's number would mean another one.
    """
    import tomlkit  # noqa: PLC0415  # only the console needs it
    from tomlkit.items import AoT, Table  # noqa: PLC0415

    path, before = policy_file(connection.config), read_policy_text(connection.config)
    _follow_file(connection)
    document = tomlkit.parse(before)
    entries = document.get("exempt")
    today = connection.clock.now().date()
    if change.action == "add":
        if entries is None:
            entries = tomlkit.aot()
            document.append("exempt", entries)
        entry = tomlkit.table() if isinstance(entries, AoT) else tomlkit.inline_table()
        for name in ("user", "account", "owner", "reason"):
            if text := getattr(change, name).strip():
                entry.append(name, text)
        entry.append("expires", _day(change.expires, today))
        if isinstance(entry, Table):
            entry.add(tomlkit.nl())
        entries.append(entry)
    else:
        if entries is None or not 0 <= change.number < len(entries):
            raise BadInputError(
                "there is no such exemption in the policy file",
                "Open the page again: the file may have changed.",
            )
        # The day before today, so that the finding still names whose exemption ended, and when.
        entries[change.number]["expires"] = (
            today - timedelta(days=1) if change.action == "end" else _day(change.expires, today)
        )
    after = tomlkit.dumps(document)
    check_policy_text(after, path)
    lines = (before.splitlines(keepends=True), after.splitlines(keepends=True))
    diff = "".join(difflib.unified_diff(*lines, str(path), f"{path} (proposed)"))
    return ProposedPolicy(path, after, diff, _digest(before))


def write_exemption(connection: Connection, change: ExemptionChange, digest: str) -> None:
    """Write a change that was proposed, and let the connection follow the new policy.

    Raises RefusedError where the file is not the one that the proposal was made from.
    """
    proposed = propose_exemption(connection, change)
    if proposed.digest != digest:
        raise RefusedError(
            f"{proposed.path} was changed since this was proposed; nothing was written",
            "Review the change again.",
        )
    # A link to the file is kept: what it leads to is written.
    write_private(proposed.path.resolve(), proposed.text.encode())
    connection.policy = load_policy(connection.config)


def exemption_count(connection: Connection) -> int:
    """How many exemptions the policy file itself has; those of a mutelist come after them and are changed there.

    The connection follows the file from here on. Raises PolicyError where it is no longer valid.
    """
    connection.policy = load_policy(connection.config)
    text = read_policy_text(connection.config)
    return len(check_policy_text(text, policy_file(connection.config)).exempt)


def _follow_file(connection: Connection) -> None:
    """Raise RefusedError where the file has changed in more than comments; the connection follows it either way."""
    policy = load_policy(connection.config)
    known, connection.policy = connection.policy, policy
    if policy.digest != known.digest:
        raise RefusedError(
            "the policy file was changed since this page was made; nothing was written",
            "Open the exemptions again, and choose the entry there.",
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _day(text: str, today: date) -> date:
    try:
        day = date.fromisoformat(text.strip())
    except ValueError:
        raise BadInputError(f"{text!r} is not a date", "Write year-month-day, such as 2030-01-31.") from None
    if day < today:
        raise BadInputError(f"{day} is over: nobody would be exempt", "Name a later day.")
    return day
