"""What a person sees before anything is written, and the question."""

import sys
from typing import TYPE_CHECKING

import click

from sparekey.cli.output import message, notice, render_options
from sparekey.cli.verbosity import VERBOSITY

if TYPE_CHECKING:
    from sparekey.app import Preflight

# Of more keys than this, --yes names the file with the commands instead of printing them.
_REVERSE_LINES = 10


def show_preflight(checked: "Preflight", *, yes: bool) -> None:
    """Print what will be done, as whom, and how to revert it.

    With --yes the plan itself is not printed again, unless it was decided again here.
    """
    from sparekey import report

    going = checked.plan.writes
    notice(f"as {checked.caller.arn}")
    message(*(f"permissions could not be checked beforehand: {unread.why}" for unread in checked.unchecked))
    if not checked.known:
        message(
            "this state did not make the plan: its users were read again, and the plan below is based on that"
        )
    if not yes or not checked.known or VERBOSITY.level > 0:
        # Why keys are held was shown with the plan, unless it was decided again here.
        brief = checked.known and VERBOSITY.level <= 0
        message("".join(report.render("plan", checked.plan, "table", render_options(brief=brief))))
    message(*(f"override: {override}" for override in checked.overrides))
    if not going:
        return
    message(*(f"note: {warning}" for warning in checked.warnings if warning not in checked.plan.notes))
    if yes and len(going) > _REVERSE_LINES and VERBOSITY.level <= 0:
        notice(f"To revert manually: the commands are in {checked.reverse_file}")
    else:
        message("To revert manually:", *(f"  {line}" for line in checked.reverse), "")


def confirm(checked: "Preflight", *, yes: bool) -> bool:
    """Ask the person; True where the person has answered, False where --yes did."""
    from sparekey.errors import BadInputError, RefusedError

    if yes:
        return False
    if not sys.stdin.isatty():
        raise BadInputError(
            "there is no terminal to ask on", "Review the plan, then confirm with --yes. Nothing was changed."
        )
    plan, over = checked.plan, len(checked.overrides)
    parts = [("deactivate", len(plan.deactivations)), ("rotate", len(plan.rotations))]
    what = " and ".join(f"{verb} {count} key{'s' if count > 1 else ''}" for verb, count in parts if count)
    keys = len(plan.writes)
    question = f"Continue with {keys} key{'s' if keys > 1 else ''}" if checked.resumes else what.capitalize()
    though = f", with {over} override{'s' if over > 1 else ''} as listed above" if over else ""
    if not click.confirm(f"{question}{though}?", err=True):
        message("Cancelled. Nothing was changed.")
        raise click.exceptions.Exit(RefusedError.exit_code)
    return True
