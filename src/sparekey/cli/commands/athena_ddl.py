"""`sparekey athena-ddl`."""

from pathlib import Path

import click

from sparekey.cli.help import command
from sparekey.cli.options import output_option
from sparekey.cli.output import write_output


@command(
    "athena-ddl",
    short_help="Print how to make a table for athena=TABLE.",
    category="Set up",
    examples=(
        (
            "sparekey athena-ddl cloudtrail s3://logs --account 111122223333 --region eu-central-1 --since 2026-01-01",
            "a table for --usage athena=cloudtrail",
        ),
    ),
)
@click.argument("table", metavar="TABLE")
@click.argument("location", metavar="S3")
@click.option(
    "--account",
    "accounts",
    multiple=True,
    required=True,
    metavar="ID",
    help="An account of the trail.",
)
@click.option(
    "--region",
    "regions",
    multiple=True,
    required=True,
    metavar="NAME",
    help="A region of the trail.",
)
@click.option("--since", required=True, metavar="DATE", help="The trail's first day.")
@click.option(
    "--organization", default="", metavar="ID", help="The o-… in the path of an organization's trail."
)
@output_option
def athena_ddl_command(
    table: str,
    location: str,
    accounts: tuple[str, ...],
    regions: tuple[str, ...],
    since: str,
    organization: str,
    file: Path | None,
) -> None:
    """Print the statement that makes the table which `--source athena=TABLE` reads.

    S3 is s3://bucket/prefix, above AWSLogs. Partitions by account, region and day are projected: none has to
    be added later.
    """
    from sparekey import app

    write_output((app.athena_ddl(table, location, accounts, regions, since, organization), "\n"), file)
