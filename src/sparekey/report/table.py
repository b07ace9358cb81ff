"""What a person reads on a terminal: verdict first, never colour alone."""

import io
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sparekey.formatting import clean, key_age, last_use, moment, number, plural
from sparekey.model import (
    AccessKey,
    AccountVerdict,
    Audit,
    RootKeys,
    RunRecord,
    StepRecord,
    Unreadable,
    Usage,
    UserVerdict,
)
from sparekey.plan import Plan, Step
from sparekey.report.interface import RenderOptions
from sparekey.rules import rule
from sparekey.states import NEVER_WATCHED, RUN_STATES, STEP_STATES, step_label
from sparekey.usage.timeline import TimelineRow, make_timeline

NAME = "table"
_STYLES = {"PASS": "green", "FAIL": "bold red", "EXEMPT": "yellow", "UNREADABLE": "bold magenta"}


def audit(audit: Audit, options: RenderOptions) -> Iterator[str]:
    """The users who do not pass (all with `show_all`), what concerns the account, and the coverage."""
    now = audit.snapshot.generated
    yield _rules(audit)
    for account in audit.accounts:
        if not options.brief or isinstance(account.account.users, Unreadable):
            yield from _account(account, now, options)
    for skipped in audit.snapshot.skipped:
        yield clean(f"\nAccount {skipped.id} ({skipped.name}): not read, it is {skipped.state}\n")
    yield "\n" + coverage(audit) + "\n"


def coverage(audit: Audit) -> str:
    """Who has spare keys, and how much was read and was not."""
    counts = audit.coverage
    users = plural(counts.users_read, "user")
    exempt = f" ({number(counts.users_exempt)} exempt)" if counts.users_exempt else ""
    keys = sum(
        0 if isinstance(verdict.user.keys, Unreadable) else len(verdict.user.keys)
        for account in audit.accounts
        for verdict in account.users
    )
    missing = []
    if counts.accounts_unreadable:
        its = "its users are" if counts.accounts_unreadable == 1 else "their users are"
        missing.append(f"{plural(counts.accounts_unreadable, 'account')} ({its} not counted)")
    if counts.users_unreadable:
        missing.append(plural(counts.users_unreadable, "user"))
    read = ", ".join((plural(counts.accounts_read, "account"), users, plural(keys, "access key")))
    spare = f"{number(counts.users_spare)} of {users} {_have_spare(counts.users_spare)} spare keys{exempt}."
    lines = [
        spare
        if counts.users_read or not missing
        else "No user could be read: who has spare keys is not known.",
        f"Read: {read}. Not read: {' and '.join(missing) or 'nothing'}.",
    ]
    if counts.accounts_as_of:
        lines.append(
            f"{plural(counts.accounts_as_of, 'account')} only as of a credential report: "
            "later changes could not be looked for"
        )
    return "\n".join(lines)


def _have_spare(count: int) -> str:
    return "has" if count == 1 else "have"


def plan(plan: Plan, options: RenderOptions) -> Iterator[str]:
    """Every user's step, what holds the held ones (not with `brief`), and the counts; account names beside ids."""
    names = {
        account.id: f"{account.id} ({account.alias})"
        if account.alias and len(plan.accounts) > 1
        else account.id
        for account in plan.accounts
    }
    parts = (
        ("To rotate", plan.rotations),
        ("To deactivate", plan.deactivations),
        ("Held", () if options.brief else plan.held),
    )
    for title, steps in parts:
        if steps:
            yield f"{title}\n"
            for (account, user), of_user in groupby(steps, lambda step: (step.account, step.user)):
                yield from _user_steps(names.get(account, account), user, list(of_user), options)
            yield "\n"
    for entry in plan.exempt:
        until = f"{entry.account} {entry.user} until {entry.expires} ({entry.owner}: {entry.reason})"
        yield from _wrapped("exempt  ", until, options)
    for note in plan.notes:
        yield from _wrapped("note    ", note, options)
    for unread in plan.unread:
        yield from _wrapped("unread  ", f"{unread.what}: {unread.why}", options)
    rotate = f"{plural(len(plan.rotations), 'key')} to rotate, " if plan.rotations else ""
    yield (
        f"{rotate}{plural(len(plan.deactivations), 'key')} to deactivate, {number(len(plan.held))} held, "
        f"{plural(len(plan.exempt), 'user')} exempt, {number(len(plan.unread))} unread\n"
        f"plan {plan.digest[:12]}, good until {moment(plan.expires)}\n"
    )


def run(record: RunRecord, options: RenderOptions) -> Iterator[str]:
    """What became of each step, with AWS's request ids and the head of the ledger's chain; or the closing lines."""
    if options.brief:
        yield from _undo_closing(record, options) if options.undo else _closing(record, options)
        return
    yield f"Run {record.id}: {RUN_STATES[record.state].label}\n"
    yield f"  plan    {record.plan_digest}\n"
    yield clean(f"  caller  {record.caller}\n")
    yield f"  started {moment(record.opened)}, last entry {moment(record.updated)}\n"
    if record.watch_until:
        yield f"  watch   until {moment(record.watch_until)}\n"
    for note in record.notes:
        yield clean(f"  note    {note}\n")
    yield f"  ledger  {plural(record.entries, 'entry', 'entries')}, head {record.head}\n\n"
    for _, same in groupby(record.steps, _held_alike):
        steps = list(same)
        step, keys = steps[0], ", ".join(step.key for step in steps)
        kept = f" ({step.keep} is kept)" if step.keep else ""
        yield clean(f"  {step.account}  {step.user}  {keys}: {step_label(step.state).upper()}{kept}\n")
        for line in (*_evidence_lines(step), *_rotation_lines(step)):
            yield from _wrapped(" " * 6, line, options)
    for why, count in Counter(step.why for step in record.steps if _is_never_watched(step)).items():
        yield from _wrapped(f"  Not watched ({plural(count, 'key')}): ", why, options)


def _rotation_lines(step: StepRecord) -> list[str]:
    """Where a new key is, and who has moved to it."""
    rotation = step.rotation
    if rotation is None:
        return []
    lines = [f"New key {rotation.new_key or 'not created yet'} in {rotation.store}"]
    lines += [f"Copy {copy}" for copy in rotation.copies]
    lines += [f"Moved: {consumer}" for consumer in rotation.moved]
    lines += [f"Not moved: {consumer}" for consumer in rotation.waiting]
    if rotation.next_check and step.state in ("moving", "stalled"):
        lines.append(f"Next check: {moment(rotation.next_check)}")
    return lines


def _closing(record: RunRecord, options: RenderOptions) -> Iterator[str]:
    """How a run ended, in at most six lines: counts, state, and what to do next."""
    groups = Counter(STEP_STATES[step.state].group for step in record.steps)
    outstanding = sum(step.state == "planned" for step in record.steps)
    wrong = groups["attention"]
    rest = [
        f"{number(count)} {what}"
        for what, count in (
            ("reactivated", groups["reactivated"]),
            ("not started", outstanding),
            ("unchanged", groups["unchanged"] - outstanding),
        )
        if count
    ]
    counts = [
        f"{number(groups['deactivated'])} deactivated",
        *([f"{number(groups['rotating'])} being rotated"] if groups["rotating"] else []),
        f"{number(groups['held'])} held",
        f"{number(wrong)} failed",
        *rest,
    ]
    verdict = (
        "Apply ended with failures" if wrong else "Apply incomplete" if outstanding else "Apply complete"
    )
    yield f"{verdict}: {', '.join(counts)}.\n"
    state = f"Run {record.id}: {RUN_STATES[record.state].label}"
    watches = record.watch_until and not RUN_STATES[record.state].ended
    yield f"{state} until {moment(record.watch_until)}\n" if watches and record.watch_until else f"{state}\n"
    for step in record.steps:
        if STEP_STATES[step.state].group == "attention":
            more = f" (and {number(wrong - 1)} more)" if wrong > 1 else ""
            why = step.why or step_label(step.state)
            yield from _wrapped("Failed:  ", f"{step.account}  {step.user}  {step.key}: {why}{more}", options)
            break
    if record.state == "moving":
        yield f"Next:    sparekey worker waits for the applications; or sparekey resume {record.id}\n"
    if groups["deactivated"] or groups["rotating"] or wrong:
        yield f"Undo:    sparekey undo {record.id}\n"
    yield f"Details: sparekey show {record.id}\n"


def _undo_closing(record: RunRecord, options: RenderOptions) -> Iterator[str]:
    """How an undo ended: counts, each key that did not come back and why, and where the details are."""
    groups = Counter(STEP_STATES[step.state].group for step in record.steps)
    missing = [step for step in record.steps if STEP_STATES[step.state].may_be_inactive]
    other = [step for step in record.steps if step.state in ("changed", "gone", "deleted")]
    missing += [step for step in record.steps if STEP_STATES[step.state].handed_over]
    verdict = "Undo incomplete" if missing else "Undo complete"
    back = sum(step.state in ("undone", "rolled_back") for step in record.steps)
    rest = f", {number(groups['held'])} held" if groups["held"] else ""
    reverted = sum(step.state == "reverted" for step in record.steps)
    rest += f", {number(reverted)} handed back" if reverted else ""
    yield f"{verdict}: {number(back)} active again, {number(len(missing))} not{rest}.\n"
    for step in (*missing, *other):
        text = f"{step.account}  {step.user}  {step.key}: {step_label(step.state).upper()}"
        yield from _wrapped("  ", f"{text}{': ' + step.why if step.why else ''}", options)
        if step.never_reactivate:
            yield from _wrapped("      never reactivated automatically: ", step.never_reactivate, options)
    for note in record.notes:
        yield from _wrapped("Note:    ", note, options)
    yield f"Details: sparekey show {record.id}\n"


def runs(records: tuple[RunRecord, ...], options: RenderOptions) -> Iterator[str]:
    """One line a run, in their order."""
    if not records:
        yield "No run yet: `sparekey plan -o plan.json`, then `sparekey apply plan.json`.\n"
        return
    narrow = options.width < _WIDE
    columns = ("Run", "State", "Started", "Steps", "Caller")
    table = _bare_table(*(columns[:-1] if narrow else columns))
    for record in records:
        label, begun = RUN_STATES[record.state].label, moment(record.opened)
        cells = (record.id, label, begun, _group_counts(record.steps), clean(record.caller))
        table.add_row(*(Text(cell) for cell in (cells[:-1] if narrow else cells)))
    yield from _print_to_text(options, table)


def root_keys(listing: tuple[tuple[RootKeys, ...], datetime], options: RenderOptions) -> Iterator[str]:
    """The accounts whose root user has a key or could not be asked, and the counts."""
    every, now = listing
    for account in every:
        name = clean(f"{account.account} ({account.name})" if account.name else account.account)
        match account.present, account.keys:
            case Unreadable(why=why), _:
                yield from _wrapped(f"UNREADABLE  {name}: ", why, options)
            case 0, _:
                continue
            case _, Unreadable(why=why):
                yield from _wrapped(
                    f"FAIL  {name}: the root user has an access key. ", f"Which: {why}", options
                )
            case _, tuple(keys):
                yield f"FAIL  {name}: the root user has an access key\n"
                for key in keys:
                    yield clean(
                        f"      {key.id or 'a key'} {key.status}, {key_age(key, now)}, {last_use(key, now)}\n"
                    )
    unread = sum(isinstance(account.present, Unreadable) for account in every)
    having = sum(not isinstance(account.present, Unreadable) and account.present > 0 for account in every)
    yield (
        f"{number(having)} of {plural(len(every), 'account')} {_have_spare(len(every))} a root access key; "
        f"{number(unread)} could not be asked\n"
    )
    if having:
        yield "A root key cannot be deactivated from outside, only deleted: `sparekey delete --root`.\n"


def usage(usages: tuple[Usage, ...], options: RenderOptions) -> Iterator[str]:
    """Each key and its consumers on one time line, so that one is seen to fade out and another to fade in."""
    drawn = make_timeline(usages, width=max(12, min(48, options.width // 3)))
    if drawn.first and drawn.last:
        yield f"{drawn.first} to {drawn.last}, {plural(drawn.days_each, 'day')} a character; higher is more calls\n\n"
    for usage_ in usages:
        yield from _add_usage(usage_, [line for line in drawn.lines if line.key == usage_.key], options)
    for what, why in sorted({(entry.what, entry.why) for usage_ in usages for entry in usage_.unread}):
        yield clean(f"unread  {what}: {why}\n")


def _add_usage(usage: Usage, lines: list[TimelineRow], options: RenderOptions) -> Iterator[str]:
    yield (
        f"{usage.key}  {plural(usage.calls, 'call')}, {plural(usage.errors, 'error')}, "
        f"{plural(usage.sessions, 'session')}, {plural(len(usage.consumers), 'consumer')}"
    )
    if usage.first_seen and usage.last_seen:
        yield f"; {moment(usage.first_seen)} to {moment(usage.last_seen)}"
    yield "\n"
    for why in usage.partial:
        yield from _wrapped("  partial: ", why, options)
    for note in usage.notes:
        yield from _wrapped("  note: ", note, options)
    actions = {
        (consumer.agent, consumer.source): sorted(
            {f"{use.service}:{action}" for use in consumer.uses for action in use.actions}
        )
        for consumer in usage.consumers
    }
    for line in lines:
        yield clean(f"  {line.bar}  {line.agent} from {line.source}, {plural(line.calls, 'call')}\n")
        yield from _wrapped(" " * (len(line.bar) + 4), ", ".join(actions[line.agent, line.source]), options)
    yield "\n"


def _group_counts(steps: Iterable[StepRecord]) -> str:
    """What became of the keys of a run: `5 deactivated, 6 held`."""
    names = {"attention": "need attention", "unchanged": "unchanged"}
    groups = Counter(STEP_STATES[step.state].group for step in steps)
    return ", ".join(f"{number(count)} {names.get(group, group)}" for group, count in sorted(groups.items()))


def _held_alike(step: StepRecord) -> tuple[str, ...]:
    """The same for keys of one user that are held for one reason; every other step is alone."""
    alone = "" if step.state == "held" else step.key
    return step.account, step.user, alone, step.state, step.decided, step.why, step.release


def _is_never_watched(step: StepRecord) -> bool:
    """True where it was known beforehand that the key would not be watched; False where its watch was lost."""
    return step.state == "unwatched" and step.why in NEVER_WATCHED


def _evidence_lines(step: StepRecord) -> list[str]:
    # Why keys were never to be watched is the same for all of them, and stands once at the end.
    why = "" if _is_never_watched(step) or step.why in step.decided else step.why
    lines = [step.decided, *([why] if why else [])]
    if step.release:
        lines.append(f"To release: {step.release}")
    if step.never_reactivate:
        lines.append(f"never reactivated automatically: {step.never_reactivate}")
    if step.after:
        lines.append(f"before: {_statuses(step.before)}")
        lines.append(f"after:  {_statuses(step.after)}")
    if step.request_ids:
        lines.append(f"requests: {', '.join(step.request_ids)}")
    return lines


def _statuses(statuses: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {status}" for key, status in sorted(statuses.items()))


def _rules(audit: Audit) -> str:
    lines = []
    for name in audit.rules:
        rule_ = rule(name)[0]
        cis = f"CIS {audit.cis}: {rule_.cis_number(audit.cis) or 'no such control'} · " if audit.cis else ""
        lines.append(f"{cis}{rule_.id}: {rule_.title}\n")
    return "".join(lines)


def _account(account: AccountVerdict, now: datetime, options: RenderOptions) -> Iterator[str]:
    unread = account.account
    name = clean(f"{unread.id} ({unread.alias})" if unread.alias else unread.id)
    if isinstance(unread.users, Unreadable):
        yield clean(f"\nAccount {name}: UNREADABLE: {unread.users.why}\n")
        return
    shown = [verdict for verdict in account.users if options.show_all or verdict.status != "PASS"]
    if not shown and not account.findings and not unread.notes:
        return
    yield f"\nAccount {name}, read by {unread.read_by}, as of {moment(unread.as_of)}\n"
    for finding in account.findings:
        yield clean(f"{finding.status}  {finding.rule}: {finding.message}\n")
    for note in unread.notes:
        yield clean(f"note  {note}\n")
    if shown:
        narrow = options.width < _WIDE
        table = _bare_table("Status", "User", "Access key", "State", "Age", "Last use")
        for verdict in shown:
            _add_user(table, verdict, now, narrow=narrow)
        yield from _print_to_text(options, table)
        for verdict in shown:
            messages = [
                finding.message for finding in verdict.findings if finding.message not in _NOT_REPEATED
            ]
            if messages:
                yield from _wrapped("  ", f"{verdict.user.name}: {'; '.join(messages)}", options)


# Columns from which on a table shows everything; below, what matters least is left out.
_WIDE = 100


def _short_use(key: AccessKey, now: datetime) -> str:
    """When a key was last used, without the service and region: `2 h ago`, `never`, `not read`."""
    text = last_use(key, now).partition(" (")[0]
    return text.removeprefix("used ").removeprefix("last use ").removesuffix(" used")


def _add_user(table: Table, verdict: UserVerdict, now: datetime, *, narrow: bool) -> None:
    user = verdict.user
    keys = () if isinstance(user.keys, Unreadable) else user.keys
    rows = [
        (
            key.id or "(id not read)",
            key.status,
            key_age(key, now).removesuffix(" old").removeprefix("age " if narrow else ""),
            _short_use(key, now) if narrow else last_use(key, now),
        )
        for key in keys
    ]
    for at, row in enumerate(rows or [("none", "", "", "")]):
        first = (Text(verdict.status, _STYLES[verdict.status]), Text(clean(user.name)))
        table.add_row(*(first if at == 0 else ("", "")), *(Text(clean(cell)) for cell in row))


_NOT_REPEATED = frozenset(f"{count} active keys" for count in range(2, 10))


def _user_steps(account: str, user: str, steps: list[Step], options: RenderOptions) -> Iterator[str]:
    keep, rotates = steps[0].keep, steps[0].action == "rotate"
    yield clean(
        f"  {account}  {user}"
        + (
            f": keep {keep}\n"
            if keep
            else ": a new key is created\n"
            if rotates
            else ": no key chosen to keep\n"
        )
    )

    def facts(step: Step) -> tuple[str, str, str, str]:
        return step.reason, step.why, step.release, step.never_reactivate

    for (reason, why, release, barred), same in groupby(steps, facts):
        keys = ", ".join(step.key for step in same)
        yield from _wrapped(f"    {keys}  ", f"[{reason}] {why}", options)
        if release:
            yield from _wrapped("      To release: ", release, options)
        if barred:
            yield from _wrapped("      never reactivated automatically: ", barred, options)


def _wrapped(lead: str, text: str, options: RenderOptions) -> Iterator[str]:
    lines = textwrap.wrap(
        clean(lead + text),
        options.width,
        subsequent_indent=" " * (len(lead) - len(lead.lstrip()) + 4),
        break_long_words=False,
    )
    yield "".join(f"{line}\n" for line in lines)


_WHOLE = frozenset({"Access key", "Age", "Run", "Started", "State", "Status"})


def _bare_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        # An id that is broken over two lines cannot be copied.
        table.add_column(column, overflow="fold", header_style="bold", no_wrap=column in _WHOLE)
    return table


def _print_to_text(options: RenderOptions, table: Table) -> Iterator[str]:
    out = io.StringIO()
    console = Console(
        file=out,
        width=options.width,
        force_terminal=options.color,
        no_color=not options.color,
        highlight=False,
    )
    console.print(table)
    yield "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
