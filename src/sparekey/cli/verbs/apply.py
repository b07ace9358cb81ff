"""`sparekey apply`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparekey.cli.events import refuse_both, run_exit_code, say
from sparekey.cli.shell import connecting, database_option, format_option, look, notify_option, show, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import App


@click.command("apply", short_help="Deactivate the keys of a plan, and read back.")
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
@click.option("--max-account-keys", type=click.IntRange(1), help="The same for each account: so many keys,")
@click.option(
    "--max-account-share", type=click.FloatRange(0, 1), help="or this share of the active keys read in it."
)
@click.option("--waves", default="", metavar="SIZES", help="So many users at a time: 1,10,rest.")
@click.option(
    "--green-for",
    default="",
    metavar="TIME",
    help="Begin the next wave once this one has been green so long; else once it has settled.",
)
@click.option("--wait", is_flag=True, help="Stay until the watch is over.")
@click.option("--detach", is_flag=True, help="Hand the run over to `sparekey worker` and return.")
@click.option("--no-watch", is_flag=True, help="Do not watch: the keys end as unwatched.")
@notify_option
@format_option("run")
@database_option
@connecting()
def COMMAND(  # noqa: N802
    plan: Path,
    yes: bool,
    max_keys: int,
    max_share: float,
    max_account_keys: int | None,
    max_account_share: float | None,
    waves: str,
    green_for: str,
    wait: bool,
    detach: bool,
    no_watch: bool,
    targets: tuple[str, ...],
    format_: str,
    connect: "Callable[[], App]",
) -> int:
    """Carry out a plan: deactivate its keys, and read back that they are Inactive.

    Asks first. Each user is read again just before the write, and held if anything changed. After a crash or
    Ctrl-C the same command goes on. Exit code 0: all done; 1: a key did not turn inactive; 3: steps are held;
    4: the plan says that something could not be read.
    """
    from sparekey import app, report

    refuse_both(wait, detach)

    limits = app.Limits(
        max_keys=max_keys,
        max_share=max_share,
        account_keys=max_account_keys,
        account_share=max_account_share,
    )
    wanted = app.read_plan(plan)
    here = connect()
    app.check_targets(here, targets)
    how = app.options(here, waves=waves, green_for=green_for, watch=not no_watch)
    checked = app.preflight(here, wanted, limits, how, detach=detach)
    tell(f"as {checked.caller.arn}")
    tell(*(f"permissions could not be checked beforehand: {unread.why}" for unread in checked.unchecked))
    tell("".join(report.render("plan", wanted, "table", look())))
    if wanted.deactivations:
        tell(*(f"note: {warning}" for warning in checked.warnings if warning not in wanted.notes))
        tell("This is how to reverse it by hand:", *(f"  {line}" for line in checked.reverse), "")
        _ask(len(wanted.deactivations), resumes=checked.resumes, yes=yes)
    record = app.apply(
        here, wanted, limits=limits, options=how, on_event=say, on_notice=tell, wait=wait, detach=detach
    )
    show(report.render("run", record, format_, look()))
    tell(*(f"not told: {failed.target}: {failed.why}" for failed in app.tell_of_run(here, record, targets)))
    code = run_exit_code(record, handed_over=detach)
    return 4 if wanted.unread and code != 1 else code


def _ask(keys: int, *, resumes: bool, yes: bool) -> None:
    from sparekey.errors import BadInputError, RefusedError

    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInputError(
            "there is no terminal to ask on", "Look at the plan, then say --yes. Nothing was changed."
        )
    what = "Go on with" if resumes else "Deactivate"
    if not click.confirm(f"{what} {keys} key{'s' if keys > 1 else ''}?", err=True):
        raise RefusedError("the answer was no", "Nothing was changed.")
