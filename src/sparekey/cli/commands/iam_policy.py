"""`sparekey iam-policy`."""

import json
from pathlib import Path

import click

from sparekey.cli.help import command
from sparekey.cli.options import output_option
from sparekey.cli.output import write_output


@command(
    "iam-policy",
    short_help="Print the least IAM policy for a job.",
    category="Set up",
    examples=(
        ("sparekey iam-policy audit", "the least policy for reading"),
        ("sparekey iam-policy stackset > roles.yaml", "both roles for every member account"),
    ),
)
@click.argument("kind", type=click.Choice(("audit", "apply", "delete", "stackset")))
@click.option("--org", is_flag=True, help="For the account from which others are entered.")
@output_option
def iam_policy_command(kind: str, org: bool, file: Path | None) -> None:
    """Print the least IAM policy that audit, apply or delete needs.

    `stackset` prints a CloudFormation template of two member roles: SparekeyAudit reads, SparekeyApply also
    switches keys off and on.
    """
    from sparekey import app

    document = app.iam_policy(kind, organization=org)  # type: ignore[arg-type]  # click has checked the choice
    write_output((json.dumps(document, indent=2), "\n"), file)
