"""`sparekey worker`."""

import signal
import threading
from typing import TYPE_CHECKING

import click

from sparekey.cli.options import connecting, database_option, notify_option, tell
from sparekey.cli.secondary_output import Aside

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import App, Told
    from sparekey.model import RunRecord, StepRecord


@click.command("worker", short_help="Carry and watch runs.")
@notify_option
@database_option
@connecting()
def COMMAND(targets: tuple[str, ...], connect: "Callable[[], App]") -> None:  # noqa: N802
    """Carry the runs that were handed over, and watch those that were applied; until Ctrl-C or SIGTERM.

    Any number of workers share the runs of one PostgreSQL database (SPAREKEY_DATABASE_URL); with SQLite, one
    at a time. Asked twice, a worker ends at once. It needs credentials that it can renew. --notify sends
    each automatic rollback, each that failed (once an hour for as long as it fails), and that the state
    cannot be used: keys then come back by what is known without it.
    """
    from sparekey import app
    from sparekey.errors import SparekeyError

    over = threading.Event()

    def end(*_: object) -> None:
        over.set()
        # The engine waits for a database that is away for as long as it takes: asked once more, end at once.
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, signal.SIG_DFL)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, end)
    here = connect()
    tell(f"working as {here.caller(()).arn}; Ctrl-C ends")
    if here.gateway.credentials_end():
        tell(
            "note: nothing renews these credentials (a session, or a sign-in with SSO or aws login): once they end, no "
            "run is watched and no key reactivated until the worker is started again"
        )
    app.check_targets(here, targets)

    aside = Aside()

    def rolled_back(record: "RunRecord", step: "StepRecord") -> None:
        tell(f"{came_of(step)}: {step.account}  {step.user}  {step.key} (run {record.id}): {step.why}")
        if step.state != "rolled_back":
            tell(f"To reactivate it yourself: sparekey undo {record.id} --key {step.key}")
        failures = app.tell_of_rollback(here, record, step, targets)
        tell(*(f"not told: {failed.target}: {failed.why}" for failed in failures))

    def emergency(what: "Told") -> None:
        tell(what.text)
        failures = app.tell_of_state(here, what, targets)
        tell(*(f"not told: {failed.target}: {failed.why}" for failed in failures))

    def failed(run: str, why: str) -> None:
        tell(f"run {run}: work on it failed: {why}", f"`sparekey show {run}` tells how far it has come.")

    def say(text: str) -> None:
        aside.soon(lambda: tell(text))

    with aside.going():
        try:
            app.work(
                here,
                over.is_set,
                lambda record, step: aside.soon(lambda: rolled_back(record, step)),
                lambda run, why: aside.soon(lambda: failed(run, why)),
                say,
                say,
                lambda what: aside.soon(lambda: emergency(what)),
            )
        except SparekeyError as error:
            why = f"the worker has ended: {error.message}; it watches no run until it is started again"
            aside.soon(lambda: emergency(app.Told(why, (), ())))
            raise
    tell("ended; what is not finished waits for the next worker")


def came_of(step: "StepRecord") -> str:
    """What became of a key that was to be reactivated without a person."""
    if step.state == "rolled_back":
        return "rolled back"
    if step.state == "rollback_failed":
        return "ROLLBACK FAILED, the key is still inactive beside an unhealthy probe"
    return "NOT REACTIVATED, only a person may do that"
