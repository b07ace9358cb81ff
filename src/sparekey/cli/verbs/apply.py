"""`sparekey apply`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparekey.cli.shell import connecting, format_option, look, show, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import App, Entry
    from sparekey.model import RunRecord


@click.command("apply")
@click.argument("plan", type=click.Path(path_type=Path, dir_okay=False), metavar="PLAN")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@click.option(
    "--max-keys",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="So many keys may go in one run,",
)
@click.option(
    "--max-share",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="or this share of the active keys read, whichever is more.",
)
@format_option
@connecting()
def COMMAND(  # noqa: N802
    plan: Path,
    yes: bool,
    max_keys: int,
    max_share: float,
    format_: str,
    connect: "Callable[[], App]",
) -> int:
    """Carry out a plan: deactivate its keys, and read back that they are Inactive.

    Asks first. Each user is read again just before the write, and held if anything changed. After a crash or
    Ctrl-C the same command goes on. Exit code 0: all done; 1: a key did not turn inactive; 3: steps are held.
    """
    from sparekey import app, report

    limits = app.Limits(max_keys=max_keys, max_share=max_share)
    wanted = app.read_plan(plan)
    here = connect()
    checked = app.preflight(here, wanted, limits)
    tell(f"as {checked.caller.arn}")
    tell(*(f"permissions could not be checked beforehand: {unread.why}" for unread in checked.unchecked))
    if wanted.deactivations:
        tell("".join(report.render("plan", wanted, "table", look())))
        tell("This is how to reverse it by hand:", *(f"  {line}" for line in checked.reverse), "")
        _ask(len(wanted.deactivations), resumes=checked.resumes, yes=yes)
    record = app.apply(here, wanted, limits=limits, on_event=_say)
    show(report.render("run", record, format_, look()))
    return _exit_code(record)


def _ask(keys: int, *, resumes: bool, yes: bool) -> None:
    from sparekey.errors import BadInputError

    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInputError(
            "there is no terminal to ask on", "Look at the plan, then say --yes. Nothing was changed."
        )
    what = "Go on with" if resumes else "Deactivate"
    click.confirm(f"{what} {keys} key{'s' if keys > 1 else ''}?", abort=True, err=True)


def _say(entry: "Entry") -> None:
    told = entry.body
    words = _SAID.get(entry.kind)
    if words:
        tell(f"{entry.at:%H:%M:%S}  {told['account']}  {told['user']}  {told['key']}: {words}")


_SAID = {
    "intent": "about to change it",
    "written": "AWS has taken the change",
    "unsure": "AWS's answer was lost: reading what became of it",
    "resolved": "read what became of it",
    "confirmed": "read back, several readings agree",
    "held": "held",
    "failed": "failed",
    "foreign": "somebody else changed it",
    "gone": "is gone",
    "already-inactive": "was inactive already",
}


def _exit_code(record: "RunRecord") -> int:
    states = {step.state for step in record.steps}
    if states & {"failed", "in_doubt", "applied", "planned", "reactivating"}:
        return 1
    return 3 if "held" in states else 0
