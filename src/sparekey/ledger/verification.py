"""Verify the ledger: every row of its tables is accounted for, and each fault is named.

`Ledger.verify` recomputes one chain. This module reads the whole table instead of the chains that it expects:
rows of a run that has no opening entry, rows under a name that is no run's, kinds that no version wrote, and
tables beside the entries that contradict them. Nothing in a row is trusted, not even its type.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from typing import Any

import msgspec
import sqlalchemy as sa

from sparekey.errors import BadInputError
from sparekey.ledger import plan_registry
from sparekey.ledger.database import state_error
from sparekey.ledger.events import (
    DeletionIntended,
    RootDeletionIntended,
    RunEvent,
    RunOpened,
    StepHeld,
    WriteIntended,
    event_from_body,
)
from sparekey.ledger.records import GENESIS, VerifiedChain, canonical, entry_hash
from sparekey.ledger.store import Ledger
from sparekey.model import Value

# A run is named by its plan's digest, and so is the one entry that puts a plan on record; deleted root keys are
# recorded in a chain for each account.
_RUN = re.compile(r"r-([0-9a-f]{8}|[0-9a-f]{32})\Z")
_ROOT_CHAIN = re.compile(r"root-[0-9]{12}\Z")
_PLAN = re.compile(r"p-[0-9a-f]{64}\Z")
_HEAD = re.compile(r"[0-9a-f]{64}\Z")
_COLUMNS = ("run", "seq", "at", "kind", "account", "user_name", "body", "prev", "hash")
# Without types: SQLite keeps whatever a row was given.
_ENTRIES = sa.table("sparekey_entries", *map(sa.column, _COLUMNS))
_CLAIMS = sa.table("sparekey_claims", *map(sa.column, ("account", "user_name", "epoch", "run")))
_OBSERVATIONS = sa.table("sparekey_observations", *map(sa.column, ("run", "name", "asked", "seen")))
# So many faults are named for one chain or table; the rest are counted.
_NAMED = 100


class VerificationResult(Value, frozen=True):
    """The chains of the ledger, and what is wrong beside them; nothing is broken where `intact`."""

    chains: tuple[VerifiedChain, ...]
    faults: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        """True where every row is accounted for."""
        return not self.faults and not any(chain.broken for chain in self.chains)


def parse_head(text: str) -> str:
    """A head hash as a person passes it, in lower case; raises BadInputError for anything but a whole one."""
    head = text.strip().lower()
    if not _HEAD.match(head):
        what = "is empty" if not head else f"{text!r} is not a head hash"
        raise BadInputError(
            f"--head {what}: a head is 64 hexadecimal digits; nothing was verified",
            "Pass the head as `sparekey ledger verify RUN` or the report of the run printed it.",
        )
    return head


def verify_run(ledger: Ledger, run: str, head: str | None = None) -> VerificationResult:
    """Every row of one run, against a head that was kept elsewhere where one is given. Raises StateError."""
    seen = _SeenSoFar()
    chains = tuple(_chains(raw_rows(ledger, run), seen))
    if not chains:
        return VerificationResult((VerifiedChain(run, 0, GENESIS, (f"run {run} has no entries",)),))
    if head is None or head in seen.hashes:
        return VerificationResult(chains)
    cut = (
        f"the head {head} is not in the chain: entries after {chains[0].entries} were cut off or replaced",
    )
    return VerificationResult(
        (msgspec.structs.replace(chains[0], broken=(*chains[0].broken, *cut)), *chains[1:])
    )


def verify_all(ledger: Ledger) -> VerificationResult:
    """Every row of every table, in one reading of the entries. Raises StateError."""
    seen = _SeenSoFar()
    chains = tuple(_chains(raw_rows(ledger), seen))
    faults = (
        *_database_damage(ledger),
        *_triggers(ledger),
        *_claims(ledger, seen),
        *_observations(ledger, seen),
    )
    return VerificationResult(chains, _limit_faults(faults))


def raw_rows(ledger: Ledger, run: str | None = None) -> Iterator[dict[str, Any]]:
    """Every row of the entries as it is stored, ordered by run and number; of one run where one is named."""
    query = sa.select(_ENTRIES).order_by(_ENTRIES.c.run, _ENTRIES.c.seq)
    if run is not None:
        query = query.where(_ENTRIES.c.run == run)
    for row in _raw_rows(ledger, query):
        yield dict(zip(_COLUMNS, row, strict=True))


def _raw_rows(ledger: Ledger, query: sa.Executable) -> Iterator[Any]:
    try:
        with ledger.engine.connect() as connection:
            yield from connection.execution_options(yield_per=1000).execute(query)
    except sa.exc.DBAPIError as error:
        raise state_error(error, ledger.engine.url) from error


class _SeenSoFar:
    """What the entries add up to, for the tables beside them."""

    def __init__(self) -> None:
        self.runs: set[object] = set()
        self.hashes: set[object] = set()
        # By account and user: the epochs of intents, and how many entries may have moved the epoch.
        self.epochs: dict[tuple[str, str], list[int]] = {}
        self.claims_taken: dict[tuple[str, str], int] = {}

    def add(self, event: RunEvent) -> Iterator[str]:
        if isinstance(event, WriteIntended | DeletionIntended | StepHeld):
            user = (event.account, event.user)
            self.claims_taken[user] = self.claims_taken.get(user, 0) + 1
            if isinstance(event, WriteIntended):
                epochs = self.epochs.setdefault(user, [])
                if event.epoch in epochs:
                    yield f"has epoch {event.epoch} of user {event.user}, which another intent has"
                epochs.append(event.epoch)


def _chains(rows: Iterable[dict[str, Any]], seen: _SeenSoFar) -> Iterator[VerifiedChain]:
    for run, of_run in groupby(rows, key=lambda row: row["run"]):
        seen.runs.add(run)
        yield _chain(run, of_run, seen)


def _chain(run: object, rows: Iterable[Mapping[str, Any]], seen: _SeenSoFar) -> VerifiedChain:
    broken: list[str] = list(_name_faults(run))
    last: dict[str, Any] = {"seq": 0, "hash": GENESIS}
    count = 0
    for row in rows:
        count += 1
        if count == 1 and not broken:
            broken += _opening_faults(row)
        broken += _row_faults(row, last, seen)
        seen.hashes.add(row["hash"])
        last = dict(row)
    return VerifiedChain(_shown_value(run), count, _shown_value(last["hash"]), _limit_faults(broken))


def _name_faults(run: object) -> Iterator[str]:
    if not isinstance(run, str):
        yield f"its entries have {'no run' if run is None else 'a run that is not text'}"
    elif not any(name.match(run) for name in (_RUN, _ROOT_CHAIN, _PLAN)):
        yield f"{run!r} is not the name of a run"


def _opening_faults(row: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the entry that comes first: a run begins with the plan that names it."""
    if row["seq"] != 1:
        return  # named as removed entries
    if str(row["run"]).startswith(plan_registry.PREFIX):
        return
    expected = _tag(RootDeletionIntended if str(row["run"]).startswith("root-") else RunOpened)
    if row["kind"] != expected:
        yield f"entry 1 is not the opening of a run: its kind is {row['kind']!r}, not {expected!r}"


def _tag(kind: type[Value]) -> str:
    return str(kind.__struct_config__.tag)


def _row_faults(row: Mapping[str, Any], last: Mapping[str, Any], seen: _SeenSoFar) -> Iterator[str]:
    seq = row["seq"]
    wrong = [name for name in _COLUMNS if not isinstance(row[name], int if name == "seq" else str)]
    if wrong:
        yield f"entry {seq!r} has no usable {', '.join(wrong)}"
        return
    yield from _order_faults(row, last)
    if row["hash"] != entry_hash(row["run"], seq, row["at"], row["kind"], row["body"], row["prev"]):
        yield f"entry {seq} was edited"
        return
    for fault in _content_faults(row, seen):
        yield f"entry {seq} {fault}"


def _order_faults(row: Mapping[str, Any], last: Mapping[str, Any]) -> Iterator[str]:
    seq, before = row["seq"], last["seq"]
    if not isinstance(before, int) or seq < 1:
        yield f"entry {seq} has a number that no entry can have, or follows one"
    elif seq == before:
        yield f"entry {seq} is there twice"
    elif seq == before + 2:
        yield f"entry {before + 1} was removed"
    elif seq > before + 2:
        yield f"entries {before + 1} to {seq - 1} were removed"
    elif row["prev"] != last["hash"]:
        yield f"entry {seq} does not follow entry {before}: one of them was replaced or moved"


def _content_faults(row: Mapping[str, Any], seen: _SeenSoFar) -> Iterator[str]:
    """What is wrong with an entry whose hash is right: an attacker who edits an entry can also compute its hash."""
    if not _is_moment(row["at"]):
        yield f"has a time that is none: {row['at']!r}"
    try:
        body = msgspec.json.decode(row["body"])
    except (msgspec.DecodeError, UnicodeError):
        yield "has a body that is not JSON"
        return
    if not isinstance(body, dict):
        yield "has a body that is not a JSON object"
        return
    if (row["account"], row["user_name"]) != (str(body.get("account", "")), str(body.get("user", ""))):
        yield "is filed under another user"
    if str(row["run"]).startswith(plan_registry.PREFIX):
        yield from _plan_faults(row, body)
        return
    try:
        event = event_from_body(row["kind"], body)
    except msgspec.ValidationError as error:
        yield f"is of a kind that this version does not know, {row['kind']!r}, or has a wrong body: {error}"
        return
    if isinstance(event, RunOpened) and not event.plan_digest.startswith(str(row["run"]).removeprefix("r-")):
        yield f"opens the run with plan {event.plan_digest[:12]}, which is another run's"
    yield from seen.add(event)


def _plan_faults(row: Mapping[str, Any], body: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the entry that puts a plan on record."""
    try:
        planned = msgspec.convert(body, plan_registry.PlanRegistered)
    except msgspec.ValidationError as error:
        yield f"puts no plan on record: {error}"
        return
    if (row["seq"], row["kind"]) != (1, plan_registry.KIND):
        yield f"is of kind {row['kind']!r} in the chain of a plan, which has one entry of kind {plan_registry.KIND!r}"
    if plan_registry.PREFIX + planned.plan_digest != row["run"]:
        yield f"puts plan {planned.plan_digest[:12]} on record, which is another one"


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _claims(ledger: Ledger, seen: _SeenSoFar) -> Iterator[str]:
    """Claims against entries: each intent moves its user's epoch by one, in the same transaction."""
    claimed: dict[tuple[str, str], int] = {}
    for account, user, epoch, run in _raw_rows(ledger, sa.select(_CLAIMS)):
        if not isinstance(epoch, int) or not isinstance(account, str) or not isinstance(user, str):
            yield f"the claim on user {user!r} in account {account!r} has no usable epoch"
            continue
        claimed[account, user] = epoch
        if epoch and run not in seen.runs:
            yield f"the claim on user {user} in account {account} is of run {run!r}, which has no entries"
        most = seen.claims_taken.get((account, user), 0)
        if epoch > most:
            yield (
                f"the claim on user {user} in account {account} was taken {epoch} times; by the entries, at most "
                f"{most}: entries were cut off"
            )
    for user_id, epochs in sorted(seen.epochs.items()):
        if claimed.get(user_id, 0) < max(epochs):
            yield (
                f"the claim on user {user_id[1]} in account {user_id[0]} is at epoch {claimed.get(user_id, 0)}, "
                f"an entry has {max(epochs)}: it was set back or removed"
            )


def _observations(ledger: Ledger, seen: _SeenSoFar) -> Iterator[str]:
    for run, name, asked, answered in _raw_rows(ledger, sa.select(_OBSERVATIONS)):
        if run not in seen.runs:
            yield f"an observation of probe {name!r} is of run {run!r}, which has no entries"
        if not all(isinstance(at, str) and _is_moment(at) for at in (asked, answered)):
            yield f"an observation of probe {name!r} in run {run!r} has a time that is none"


def _triggers(ledger: Ledger) -> Iterator[str]:
    """Triggers on our tables: they change what is written without a trace, and sparekey makes none."""
    query = (
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'sparekey%'"
        if ledger.engine.dialect.name == "sqlite"
        else "SELECT tgname, tgrelid::regclass::text FROM pg_trigger "
        "WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'sparekey%'"
    )
    for name, table in _raw_rows(ledger, sa.text(query)):
        yield f"table {table} has a trigger {name!r}, which sparekey did not make"


def _database_damage(ledger: Ledger) -> Iterator[str]:
    """What SQLite itself finds wrong with the file, indexes included."""
    if ledger.engine.dialect.name != "sqlite":
        return
    messages = [row[0] for row in _raw_rows(ledger, sa.text("PRAGMA integrity_check(20)"))]
    if messages != ["ok"]:
        yield from (f"the state file is damaged: {' '.join(str(what).split())}" for what in messages)


def _limit_faults(faults: Iterable[str]) -> tuple[str, ...]:
    named = tuple(faults)
    if len(named) <= _NAMED:
        return named
    return (*named[:_NAMED], f"and {len(named) - _NAMED} more faults")


def _shown_value(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def exported_entry(row: Mapping[str, Any]) -> str:
    """A row as a line of canonical JSON; what cannot be read in it is passed on as it is stored."""
    line = {name: row[name] for name in ("run", "seq", "at", "kind", "body", "prev", "hash")}
    if isinstance(row["at"], str) and _is_moment(row["at"]):
        line["at"] = datetime.fromisoformat(row["at"])
    try:
        line["body"] = msgspec.json.decode(row["body"])
    except (msgspec.DecodeError, msgspec.ValidationError, TypeError, UnicodeError):
        line["unreadable"] = True
    return canonical(line)
