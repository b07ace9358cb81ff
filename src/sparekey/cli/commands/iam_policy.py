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
        ("sparekey iam-policy stackset > roles.yaml", "the roles for every member account"),
    ),
)
@click.argument("kind", type=click.Choice(("audit", "apply", "rotate", "delete", "stackset")))
@click.option("--org", is_flag=True, help="For the account from which others are entered.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Policy file, for rotate. Default: SPAREKEY_HOME/sparekey.toml.",
)
@output_option
def iam_policy_command(kind: str, org: bool, config: Path | None, file: Path | None) -> None:
    """Print the least IAM policy that audit, apply, rotate or delete needs.

    `rotate` names the stores of the policy's [[handover]] entries. `stackset` prints a CloudFormation template of three
    member roles: SparekeyAudit reads, SparekeyApply also switches keys off and on, SparekeyRotate also creates them.
    """
    from sparekey import app

    document = app.iam_policy(kind, organization=org, config=config)  # type: ignore[arg-type]  # click has checked the choice
    write_output((json.dumps(document, indent=2), "\n"), file)
