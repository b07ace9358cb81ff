"""The tables of the state database and their migrations."""

import sqlalchemy as sa

from sparekey.ledger.database import SchemaError

SCHEMA_VERSION = 2

metadata = sa.MetaData()

meta_table = sa.Table(
    "sparekey_meta",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

entries_table = sa.Table(
    "sparekey_entries",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    # Copies out of the body, to find a user's entries by.
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("user_name", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("prev", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Index("sparekey_entries_user", "account", "user_name", "run", "seq"),
    sa.Index("sparekey_entries_kind", "run", "kind", "seq"),
)

# Who may write to a user: a number that grows with every intent, so that a worker thought dead finds out.
claims_table = sa.Table(
    "sparekey_claims",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("user_name", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
)

# The latest word of each probe of a run; what matters of it stands in the chain as well.
observations_table = sa.Table(
    "sparekey_observations",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("asked", sa.Text, nullable=False),
    sa.Column("seen", sa.Text, nullable=False),
    sa.Column("green", sa.Boolean, nullable=True),
)

workers_table = sa.Table(
    "sparekey_workers",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("since", sa.Text, nullable=False),
    sa.Column("credentials_until", sa.Text, nullable=True),
)

# The runs, and whether something may be left to do for them: every entry opens its run's row again, and the
# supervision closes it once nothing is due. So what is unfinished is found without reading the past.
runs_table = sa.Table(
    "sparekey_runs",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("unfinished", sa.Boolean, nullable=False),
    sa.Index("sparekey_runs_unfinished", "unfinished", sqlite_where=sa.text("unfinished")),
)

# Processes and leases; `runs/worker_leases.py` holds what they mean.
processes = sa.Table(
    "sparekey_processes",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("beat", sa.Float, nullable=False),
)

leases = sa.Table(
    "sparekey_leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
)


def stored_version(connection: sa.Connection) -> str | None:
    """The version of the tables; None where there are none."""
    if not sa.inspect(connection).has_table(meta_table.name):
        return None
    return connection.execute(sa.select(meta_table.c.value).where(meta_table.c.name == "schema")).scalar()


def migrate(connection: sa.Connection) -> None:
    """Bring the tables to this version's schema; raises SchemaError where they cannot be."""
    if connection.dialect.name == "postgresql":
        # Two first starts at once: the second waits here.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(7305801)"))
    if not sa.inspect(connection).has_table(meta_table.name):
        metadata.create_all(connection)
        connection.execute(sa.insert(meta_table).values(name="schema", value=str(SCHEMA_VERSION)))
        return
    current = stored_version(connection)
    version = int(current) if current and current.isdigit() else -1
    for step in range(version, SCHEMA_VERSION):
        if step not in MIGRATIONS:
            raise SchemaError(
                f"the state has schema {current}, which is too old for this version (schema {SCHEMA_VERSION})",
                "Open it once with the previous version of sparekey; nothing was changed.",
            )
        metadata.create_all(connection)  # those that are missing
        for statement in MIGRATIONS[step]:
            connection.execute(sa.text(statement))
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"the state has schema {current}, this version of sparekey knows schema {SCHEMA_VERSION}",
            "A newer sparekey wrote it: update this one; nothing was changed.",
        )
    connection.execute(
        sa.update(meta_table).where(meta_table.c.name == "schema").values(value=str(SCHEMA_VERSION))
    )


# The statements that lead from one schema to the next; entries themselves are never rewritten.
MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        """
        INSERT INTO sparekey_runs (run, unfinished)
        SELECT run, (1 = 1) FROM sparekey_entries WHERE seq = 1 AND kind = 'opened'
        AND run NOT IN (SELECT run FROM sparekey_runs)
        """,
    )
}
