"""One HTML file for a manager and an auditor: nothing to load, nothing that runs, everything escaped.

The markup is in `_html/`, for Jinja2 (an extra): its autoescape keeps a user's name from being markup.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from sparekey import __version__
from sparekey.formatting import clean, key_age, last_use, moment, number, plural
from sparekey.model import (
    Account,
    AccountVerdict,
    Audit,
    Finding,
    RunRecord,
    StepRecord,
    Unreadable,
    User,
    UserVerdict,
    Value,
)
from sparekey.report import _run_summary, json
from sparekey.report._finding_records import finding_records
from sparekey.report.interface import RenderOptions
from sparekey.rules import DEFAULT_RULE, exit_code, rule
from sparekey.states import RUN_STATES, Tone, step_label

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

NAME = "html"

_TONES = {"PASS": "good", "FAIL": "bad", "EXEMPT": "warn", "UNREADABLE": "odd"}


class _PageVerdict(Value, frozen=True):
    word: str
    tone: str
    text: str
    also: tuple[str, ...] = ()


class _PageSection(Value, frozen=True):
    id: str
    title: str
    text: str
    rows: tuple[tuple[Account, UserVerdict], ...]


class _AccountRow(Value, frozen=True):
    account: Account
    users: int
    spare: int
    exempt: int
    unread: int
    findings: tuple[Finding, ...]


def audit(audit: Audit, options: RenderOptions) -> Iterator[str]:
    """Verdict, coverage, ages, who has spare keys; with `show_all` those who pass, too."""
    yield from _page(
        "audit.jinja",
        title="Access key audit",
        kind=f"Access key audit, {moment(audit.snapshot.generated)}",
        verdict=_audit_verdict(audit),
        facts=_audit_facts(audit),
        tiles=_audit_tiles(audit),
        accounts=[_account(verdict) for verdict in audit.accounts],
        ages=_ages(audit),
        sections=_sections(audit, options),
        rules=[rule(name)[0] for name in audit.rules],
        cis=audit.cis,
        now=audit.snapshot.generated,
    )


def run(record: RunRecord, options: RenderOptions) -> Iterator[str]:
    """Verdict, what was done to which key, before and after, why, and what proves it."""
    del options
    yield from _page(
        "run.jinja",
        title=f"Run {clean(record.id)}",
        kind=f"Access keys: run {clean(record.id)}, {moment(record.opened)}",
        verdict=_run_verdict(record),
        facts=_run_facts(record),
        tiles=[(part.title, number(len(part.steps))) for part in _run_summary.sections(record)],
        sections=_run_summary.sections(record),
        run=record,
    )


def _page(template: str, **values: Any) -> Iterator[str]:
    yield from _environment().get_template(template).generate(version=__version__, **values)
    yield "\n"


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  # late: other formats need it not

    environment = Environment(
        loader=PackageLoader("sparekey.report", "_html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    environment.tests["unreadable"] = lambda value: isinstance(value, Unreadable)
    return environment


def _escaped_text(text: str) -> "Markup":
    """Somebody else's text: escaped, invisible characters shown, its direction kept to itself."""
    from markupsafe import Markup  # noqa: PLC0415  # comes with Jinja2

    return Markup("<bdi>{}</bdi>").format(clean(text))


def _path(user: User) -> str:
    return user.arn.partition(":user")[2].removesuffix(user.name) or "/"


def _listings(step: StepRecord) -> list[tuple[str, str, str]]:
    keys = sorted({*step.before, *step.after})
    return [(key, step.before.get(key, "not there"), step.after.get(key, "not there")) for key in keys]


_FILTERS: Mapping[str, Callable[..., Any]] = {
    "name": _escaped_text,
    "moment": moment,
    "number": number,
    "key_age": key_age,
    "last_use": last_use,
    "path": _path,
    "tone": _TONES.__getitem__,
    "state": step_label,
    "listings": _listings,
}


def _audit_verdict(audit: Audit) -> _PageVerdict:
    coverage = audit.coverage
    spare = coverage.users_spare - coverage.users_exempt
    says = (
        f"{number(coverage.users_spare)} of {plural(coverage.users_read, 'user')} read have spare access keys"
    )
    if not coverage.users_spare:
        says = f"None of {plural(coverage.users_read, 'user')} read has a spare access key"
    also = []
    if coverage.users_exempt:
        also.append(f"{number(coverage.users_exempt)} of them are exempt by policy, {number(spare)} are not.")
    code = exit_code(audit)
    counts = Counter((record.rule.id == DEFAULT_RULE, record.status) for record in finding_records(audit))
    others = counts[False, "FAIL"]
    if others:
        also.append(f"{plural(others, 'finding')} of other rules {'fails' if others == 1 else 'fail'}.")
    if code == 4:
        unread = counts[True, "UNREADABLE"] + counts[False, "UNREADABLE"]
        also.append(
            f"{plural(coverage.accounts_unreadable, 'account')} and {plural(coverage.users_unreadable, 'user')} "
            f"could not be read; {plural(unread, 'rule answer')} missing: this verdict is not whole."
        )
    word, tone = {0: ("PASS", "good"), 3: ("FAIL", "bad")}.get(code, ("INCOMPLETE", "odd"))
    return _PageVerdict(word, tone, says, tuple(also))


def _audit_facts(audit: Audit) -> list[tuple[str, Any]]:
    digest = hashlib.sha256()
    for chunk in json.audit(audit, RenderOptions()):
        digest.update(chunk.encode())
    return [
        ("Generated", moment(audit.snapshot.generated)),
        ("Read as", _escaped_text(audit.snapshot.caller.arn)),
        ("SHA-256 of this audit as JSON", digest.hexdigest()),
    ]


def _audit_tiles(audit: Audit) -> list[tuple[str, str, str]]:
    coverage = audit.coverage
    users = number(coverage.users_read + coverage.users_unreadable)
    accounts = number(coverage.accounts_read + coverage.accounts_unreadable)
    return [
        ("accounts read", number(coverage.accounts_read), accounts),
        ("users read", number(coverage.users_read), users),
        ("at most one active key", number(coverage.users_read - coverage.users_spare), users),
        ("with spare keys", number(coverage.users_spare), users),
        ("exempt by policy", number(coverage.users_exempt), ""),
        ("findings that fail", number(coverage.findings_failed), ""),
    ]


def _account(verdict: AccountVerdict) -> _AccountRow:
    statuses = Counter(user.status for user in verdict.users)
    return _AccountRow(
        account=verdict.account,
        users=len(verdict.users),
        spare=sum(len(user.user.active_keys) > 1 for user in verdict.users),
        exempt=statuses["EXEMPT"],
        unread=sum(isinstance(user.user.keys, Unreadable) for user in verdict.users),
        findings=verdict.findings,
    )


def _sections(audit: Audit, options: RenderOptions) -> list[_PageSection]:
    rows = [(account.account, user) for account in audit.accounts for user in account.users]
    spare = [row for row in rows if len(row[1].user.active_keys) > 1]
    other = [row for row in rows if len(row[1].user.active_keys) <= 1]
    sections = [
        _PageSection(
            "spare",
            "Users with spare keys",
            "One active key is enough. Each further one is a second way in that is not monitored.",
            tuple(row for row in spare if row[1].status != "EXEMPT"),
        ),
        _PageSection(
            "exempt",
            "Exempt",
            "Policy lets these users have it for now, with an owner and an end.",
            tuple(row for row in rows if row[1].status == "EXEMPT"),
        ),
        _PageSection(
            "unread",
            "Could not be read",
            "These users could not be read; they do not count as passed.",
            tuple(row for row in other if row[1].status == "UNREADABLE"),
        ),
        _PageSection(
            "other",
            "Other findings",
            "At most one active key, but another rule that was asked fails.",
            tuple(row for row in other if row[1].status == "FAIL"),
        ),
    ]
    if options.show_all:
        passes = tuple(row for row in rows if row[1].status == "PASS")
        sections.append(_PageSection("passes", "Users who pass", "At most one active key.", passes))
    return sections


class _AgeBar(Value, frozen=True):
    label: str
    count: int
    tone: str
    x: int
    y: int
    width: int
    height: int

    @property
    def middle(self) -> int:
        return self.x + self.width // 2


class _AgeChart(Value, frozen=True):
    description: str
    text: str
    bars: tuple[_AgeBar, ...]
    limit: int
    width: int


_OLD = 90
_BINS = (
    (30, "under 30 d"),
    (60, "30 to 59 d"),
    (_OLD, "60 to 89 d"),
    (180, "90 to 179 d"),
    (365, "180 to 364 d"),
    (730, "1 to 2 years"),
    (None, "2 years +"),
)
_NOT_READ = "not read"
_SLOT, _BAR, _FLOOR, _TALL = 94, 64, 200, 150


def _bin(created: datetime | None, now: datetime) -> str:
    if created is None:
        return _NOT_READ
    age = now - created
    return next(label for days, label in _BINS if days is None or age < timedelta(days=days))


def _ages(audit: Audit) -> _AgeChart:
    now = audit.snapshot.generated
    keys = [key for _, user in audit.snapshot.users() for key in user.active_keys]
    counts = Counter(_bin(key.created, now) for key in keys)
    labels = [label for _, label in _BINS] + ([_NOT_READ] if counts[_NOT_READ] else [])
    most = max(counts.values(), default=1)
    young = sum(days is not None and days <= _OLD for days, _ in _BINS)
    bars = []
    for place, label in enumerate(labels):
        height = round(counts[label] * _TALL / most)
        tone = "unknown" if label == _NOT_READ else "young" if place < young else "aged"
        x = place * _SLOT + (_SLOT - _BAR) // 2
        bars.append(_AgeBar(label, counts[label], tone, x, _FLOOR - height, _BAR, height))
    old = sum(key.created is not None and now - key.created >= timedelta(days=_OLD) for key in keys)
    return _AgeChart(
        description=f"{number(old)} of {plural(len(keys), 'active key')} are 90 days old or older."
        if keys
        else "No active key was read.",
        text="; ".join(f"{bar.label}: {number(bar.count)}" for bar in bars) + ".",
        bars=tuple(bars),
        limit=young * _SLOT,
        width=len(bars) * _SLOT,
    )


# How the colours of the console are named in this page.
_RUN_TONES: Mapping[Tone, str] = {
    "wait": "plain",
    "done": "good",
    "off": "plain",
    "back": "plain",
    "held": "plain",
    "warn": "warn",
    "bad": "bad",
}


def _run_verdict(record: RunRecord) -> _PageVerdict:
    state = RUN_STATES[record.state]
    also = [f"Watched until {moment(record.watch_until)}."] if record.watch_until else []
    if record.waves > 1:
        also.append(f"Wave {record.wave} of {record.waves}.")
    return _PageVerdict(
        state.label.upper(), _RUN_TONES[state.tone], _run_summary.summary(record), tuple(also)
    )


def _run_facts(record: RunRecord) -> list[tuple[str, Any]]:
    return [
        ("Opened", moment(record.opened)),
        ("Last entry", moment(record.updated)),
        ("Run as", _escaped_text(record.caller)),
        ("Ledger", plural(record.entries, "entry", "entries")),
    ]
