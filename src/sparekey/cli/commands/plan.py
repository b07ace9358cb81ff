"""`sparekey plan`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import (
    connection_options,
    database_option,
    fail_on_held_option,
    read_option,
    report_options,
    usage_options,
)
from sparekey.cli.output import message, notice, print_report, progress, render_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection, Plan, ReadMode, UsageRequest
    from sparekey.cli.output import ReportOutput


@command(
    "plan",
    short_help="Decide which keys to keep and which to deactivate.",
    category="Decide",
    examples=(
        ("sparekey plan -o plan.json", "decide for one account"),
        (
            "sparekey plan --usage history -o plan.json",
            "also release used keys whose applications have moved",
        ),
        (
            'sparekey plan --user web --force AKIAIOSFODNN7EXAMPLE --because "leaked" --never-reactivate',
            "retire a compromised key",
        ),
        ("sparekey plan --rotate -o plan.json", "also replace keys where a user has no young one"),
    ),
)
@click.option(
    "-o",
    "--out",
    "--output",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the plan to FILE; - writes it to stdout, and the table to stderr.",
)
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="NAME",
    help="Only this user: NAME or ACCOUNT/NAME (repeatable).",
)
@click.option(
    "--exclude", multiple=True, metavar="NAME", help="Leave this user out: NAME or ACCOUNT/NAME (repeatable)."
)
@click.option("--keep", multiple=True, metavar="KEY", help="Keep this key (repeatable).")
@click.option(
    "--force",
    multiple=True,
    metavar="KEY",
    help="Deactivate this key even if it is held; needs --because (repeatable).",
)
@click.option(
    "--because",
    default="",
    metavar="TEXT",
    help="Why the forced keys can be deactivated; recorded in the plan and the ledger.",
)
@click.option(
    "--never-reactivate",
    is_flag=True,
    help="The forced keys are compromised: no rollback reactivates them, only `sparekey undo RUN --key KEY`.",
)
@click.option(
    "--keep-old",
    is_flag=True,
    help="Allow a key older than the policy's max_key_age to be kept; its rotation is still due.",
)
@click.option(
    "--rotate",
    is_flag=True,
    help="Create a new key for each user who has no young one and for whom the policy has a [[handover]].",
)
@click.option(
    "--usage",
    default="",
    metavar="SOURCE",
    help="Read who uses the held keys: history, archive=PLACE or athena=TABLE.",
)
@usage_options
@fail_on_held_option
@click.option(
    "--detailed-exitcode",
    is_flag=True,
    help="Exit with 2 when keys can be deactivated, and with 0 only when there is nothing to do, as terraform plan.",
)
@read_option
@report_options("plan", file=False)
@database_option
@connection_options(many=True)
def plan_command(
    out: Path | None,
    users: tuple[str, ...],
    exclude: tuple[str, ...],
    keep: tuple[str, ...],
    force: tuple[str, ...],
    because: str,
    never_reactivate: bool,
    keep_old: bool,
    rotate: bool,
    usage: str,
    usage_request: "Callable[..., UsageRequest]",
    fail_on_held: bool,
    detailed_exitcode: bool,
    mode: "ReadMode",
    output: "ReportOutput",
    connect: "Callable[[], Connection]",
) -> int:
    """Decide which key of each user is kept and which keys are deactivated. Read-only.

    Without -o the plan is only shown; with it, `sparekey apply FILE` executes the plan, and the plan's digest is
    recorded, so that apply with the same state recognizes it. Exit code 0: the plan is made, with held steps or
    without; 3: keys are held (with --fail-on-held); 4: something could not be read.
    """
    from sparekey import app, report
    from sparekey.errors import BadInputError

    to_stdout = out == Path("-")
    if to_stdout and output.format != "table":
        raise BadInputError(
            f"-o - and --format {output.format} both write to stdout",
            "Leave one of them out, or name a file: -o FILE.",
        )
    if force and not because.strip():
        raise BadInputError("--force needs --because TEXT", "Give the reason: it is recorded in the ledger.")
    if because and not force:
        raise BadInputError(
            "--because gives the reason for --force, and no key is forced", "Name it: --force KEY."
        )
    if never_reactivate and not force:
        raise BadInputError(
            "--never-reactivate is for forced keys, and none is named", "Name it: --force KEY."
        )
    asked = app.Overrides(
        tuple(sorted(set(keep))),
        dict.fromkeys(force, because.strip()),
        keep_old,
        tuple(sorted(set(force))) if never_reactivate else (),
        rotate,
    )
    connection = connect()
    with progress("users read") as update:
        plan = app.plan(
            connection,
            mode=mode,
            overrides=asked,
            users=users,
            exclude=exclude,
            usage=usage,
            usage_request=usage_request(),
            on_progress=update,
        )
    code = _exit_code(plan, fail_on_held=fail_on_held, detailed=detailed_exitcode)
    if to_stdout:
        message("".join(report.render("plan", plan, "table", render_options())))
        print_report((app.plan_text(plan),))
        return code
    if out:
        app.write_plan(plan, out)
    unknown = app.register_plan(connection, plan) if out or output.format == "json" else ""
    output.write(plan)
    if out:
        notice(f"Plan written to {out}. To execute it: sparekey apply {out}")
    if unknown and (plan.usages or plan.overrides != app.NO_OVERRIDES):
        message(
            f"note: the plan is not on record here ({unknown}): apply will not know it again, reads usage with"
            " --usage and asks for each override again"
        )
    return code


def _exit_code(plan: "Plan", *, fail_on_held: bool, detailed: bool) -> int:
    if plan.unread:
        return 4
    if fail_on_held and plan.held:
        return 3
    return 2 if detailed and plan.writes else 0
