"""What a person reads on a terminal: verdict first, never colour alone."""

import io
from collections.abc import Iterator
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sparekey.model import AccountVerdict, Audit, Unreadable, UserVerdict
from sparekey.plan import Plan, Step
from sparekey.report import Look
from sparekey.rules import rule
from sparekey.words import clean, key_age, last_use, moment, number, plural

NAME = "table"
_STYLES = {"PASS": "green", "FAIL": "bold red", "EXEMPT": "yellow", "UNREADABLE": "bold magenta"}


def audit(audit: Audit, look: Look) -> Iterator[str]:
    """The users who do not pass (all with `show_all`), what concerns the account, and the coverage."""
    now = audit.snapshot.generated
    yield _rules(audit)
    for account in audit.accounts:
        yield from _account(account, now, look)
    yield "\n" + coverage(audit) + "\n"


def coverage(audit: Audit) -> str:
    """How many users have at most one active key, of how many, and what could not be read."""
    told = audit.coverage
    users = told.users_read + told.users_unreadable
    fine = told.users_read - told.users_spare
    lines = [
        f"{number(fine)} of {plural(users, 'user')} have at most one active key; "
        f"{number(told.users_spare)} have spare keys"
        + (f" ({number(told.users_exempt)} exempt)" if told.users_exempt else "")
        + f"; {number(told.users_unreadable)} could not be read"
    ]
    accounts = told.accounts_read + told.accounts_unreadable
    if accounts > 1 or told.accounts_unreadable:
        lines.append(
            f"{number(told.accounts_read)} of {plural(accounts, 'account')} read; "
            f"{number(told.accounts_unreadable)} could not be read"
        )
    return "\n".join(lines)


def plan(plan: Plan, look: Look) -> Iterator[str]:
    """Every step, what holds the held ones, and the counts."""
    going, held = plan.deactivations, plan.held
    if going:
        yield from _table(look, _steps_table("To deactivate", going, released=False))
    if held:
        yield from _table(look, _steps_table("Held", held, released=True))
    for entry in plan.exempt:
        yield f"exempt  {entry.account} {entry.user} until {entry.expires} ({entry.owner}: {entry.reason})\n"
    for unread in plan.unread:
        yield f"unread  {unread.what}: {unread.why}\n"
    yield (
        f"\n{plural(len(going), 'key')} to deactivate, {number(len(held))} held, "
        f"{plural(len(plan.exempt), 'user')} exempt, {number(len(plan.unread))} unread; "
        f"plan {plan.digest[:12]}, good until {moment(plan.expires)}\n"
    )


def _rules(audit: Audit) -> str:
    lines = []
    for name in audit.rules:
        told = rule(name)[0]
        number_ = (
            f"CIS {audit.cis}: {told.cis_number(audit.cis) or 'no such control'} · " if audit.cis else ""
        )
        lines.append(f"{number_}{told.id}: {told.title}\n")
    return "".join(lines)


def _account(account: AccountVerdict, now: datetime, look: Look) -> Iterator[str]:
    told = account.account
    name = f"{told.id} ({told.alias})" if told.alias else told.id
    if isinstance(told.users, Unreadable):
        yield f"\nAccount {name}: UNREADABLE: {told.users.why}\n"
        return
    shown = [verdict for verdict in account.users if look.show_all or verdict.status != "PASS"]
    if not shown and not account.findings and not told.notes:
        return
    yield f"\nAccount {name}, read by {told.read_by}, as of {moment(told.as_of)}\n"
    for finding in account.findings:
        yield f"{finding.status}  {finding.rule}: {finding.message}\n"
    for note in told.notes:
        yield f"note  {note}\n"
    if shown:
        table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
        for column in ("Status", "User", "Finding", "Access keys"):
            table.add_column(column, overflow="fold", header_style="bold")
        for verdict in shown:
            table.add_row(*_user(verdict, now))
        yield from _table(look, table)


def _user(verdict: UserVerdict, now: datetime) -> tuple[Text, Text, Text, Text]:
    keys = () if isinstance(verdict.user.keys, Unreadable) else verdict.user.keys
    lines = [
        f"{key.id or '(id not read)'} {key.status}, {key_age(key, now)}, {last_use(key, now)}" for key in keys
    ]
    says = "; ".join(finding.message for finding in verdict.findings)
    return (
        Text(verdict.status, _STYLES[verdict.status]),
        Text(clean(verdict.user.name)),
        Text(clean(says)),
        Text(clean("\n".join(lines)) or "none"),
    )


def _steps_table(title: str, steps: tuple[Step, ...], *, released: bool) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for column in ("Account", "User", "Key", "Stays", "Why"):
        table.add_column(column, overflow="fold", header_style="bold")
    for step in steps:
        why = f"[{step.reason}] {step.why}"
        if released:
            why += f"\nreleased by: {step.release}"
        table.add_row(
            *(Text(clean(cell)) for cell in (step.account, step.user, step.key, step.keep or "none", why))
        )
    return table


def _table(look: Look, table: Table) -> Iterator[str]:
    out = io.StringIO()
    console = Console(
        file=out,
        width=look.width,
        force_terminal=look.color,
        no_color=not look.color,
        highlight=False,
        legacy_windows=False,
    )
    console.print(table)
    yield "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
