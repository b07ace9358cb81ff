"""The SQL of the ledger, built once: building a statement costs several times what SQLite takes to answer it."""

from functools import cache
from typing import Any

import sqlalchemy as sa

from sparekey.ledger.schema import (
    claims_table,
    entries_table,
    leases,
    observations_table,
    runs_table,
)

# Statements are built once: building one costs several times what SQLite takes to answer it.
epoch_of = sa.select(claims_table.c.epoch).where(
    claims_table.c.account == sa.bindparam("account"), claims_table.c.user_name == sa.bindparam("user")
)
move_claim = (
    sa.update(claims_table)
    .where(
        claims_table.c.account == sa.bindparam("claimed"),
        claims_table.c.user_name == sa.bindparam("by"),
        claims_table.c.epoch == sa.bindparam("held"),
    )
    .values(epoch=sa.bindparam("epoch"), run=sa.bindparam("run"))
)
opening_of = sa.select(entries_table.c.hash).where(
    entries_table.c.run == sa.bindparam("run"), entries_table.c.seq == 1
)
head_of = (
    sa.select(entries_table.c.seq, entries_table.c.hash)
    .where(entries_table.c.run == sa.bindparam("run"))
    .order_by(entries_table.c.seq.desc())
    .limit(1)
)

# Not ordered by number with a limit of one: for that, databases walk back through the whole chain.
last_of_kinds = (
    sa.select(entries_table.c.kind, sa.func.max(entries_table.c.seq).label("last"))
    .where(
        entries_table.c.run == sa.bindparam("run"),
        entries_table.c.kind.in_(sa.bindparam("kinds", expanding=True)),
    )
    .group_by(entries_table.c.kind)
)
wait_for_chain = sa.text("SELECT pg_advisory_xact_lock(7305802, hashtext(:run))")
add_entry = sa.insert(entries_table)
reopen = sa.text("UPDATE sparekey_runs SET unfinished = :yes WHERE run = :run AND NOT unfinished")
finish = sa.text(
    "UPDATE sparekey_runs SET unfinished = :no WHERE run = :run "
    "AND (SELECT max(seq) FROM sparekey_entries WHERE run = :run) = :seq"
)
unfinished = (
    sa.select(
        runs_table.c.run,
        sa.select(sa.func.max(entries_table.c.seq))
        .where(entries_table.c.run == runs_table.c.run)
        .scalar_subquery()
        .label("seq"),
    )
    .where(runs_table.c.unfinished)
    .order_by(runs_table.c.run)
)
_last_of_chains = (
    sa.select(entries_table.c.run, sa.func.max(entries_table.c.seq).label("seq"))
    .group_by(entries_table.c.run)
    .subquery()
)
heads = sa.select(entries_table.c.run, entries_table.c.hash).join(
    _last_of_chains,
    sa.and_(entries_table.c.run == _last_of_chains.c.run, entries_table.c.seq == _last_of_chains.c.seq),
)
observed = sa.select(observations_table).where(observations_table.c.run == sa.bindparam("run"))
lease_of = sa.select(leases.c.holder, leases.c.epoch).where(leases.c.name == sa.bindparam("name"))
entries_of_user = (
    sa.select(entries_table)
    .where(
        entries_table.c.account == sa.bindparam("account"),
        entries_table.c.user_name == sa.bindparam("user"),
        entries_table.c.kind.in_(sa.bindparam("kinds", expanding=True)),
    )
    .order_by(entries_table.c.at, entries_table.c.run, entries_table.c.seq)
)


@cache
def entries_of_run(*, one_user: bool, some_kinds: bool, limited: bool) -> sa.Select[Any]:
    query = (
        sa.select(entries_table)
        .where(entries_table.c.run == sa.bindparam("run"), entries_table.c.seq > sa.bindparam("after"))
        .order_by(entries_table.c.seq)
    )
    if one_user:
        query = query.where(
            entries_table.c.account == sa.bindparam("account"),
            entries_table.c.user_name == sa.bindparam("user"),
        )
    if some_kinds:
        query = query.where(entries_table.c.kind.in_(sa.bindparam("kinds", expanding=True)))
    return query.limit(sa.bindparam("limit", type_=sa.Integer)) if limited else query
