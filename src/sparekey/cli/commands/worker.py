"""`sparekey worker`."""

import signal
import threading
from typing import TYPE_CHECKING

import click

from sparekey.cli.options import connection_options, database_option, notify_option
from sparekey.cli.output import message
from sparekey.cli.run_events import emergency_reporter
from sparekey.cli.secondary_output import SecondaryOutput

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparekey.app import Connection
    from sparekey.model import RunRecord, StepRecord


@click.command("worker", short_help="Execute and monitor runs.")
@notify_option
@database_option
@connection_options()
def worker_command(targets: tuple[str, ...], connect: "Callable[[], Connection]") -> None:
    """Execute the runs that were handed over and monitor those that were applied, until Ctrl-C or SIGTERM.

    Any number of workers share the runs of one PostgreSQL database (SPAREKEY_DATABASE_URL); with SQLite, one
    at a time. A second signal stops the worker immediately. It needs credentials that it can renew. --notify
    reports each automatic rollback, each failed one (once an hour while it fails), and a state that cannot be
    used: the worker then reactivates keys from what it has in memory.
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
    connection = connect()
    message(f"working as {connection.caller(()).arn}; Ctrl-C ends")
    if connection.gateway.credentials_expire_at():
        message(
            "note: these credentials cannot be renewed (a session, or a sign-in with SSO or aws login): once they "
            "expire, no run is monitored and no key reactivated until the worker is restarted"
        )
    app.check_targets(connection, targets)

    aside = SecondaryOutput()

    def rolled_back(record: "RunRecord", step: "StepRecord") -> None:
        message(
            f"{outcome_line(step)}: {step.account}  {step.user}  {step.key} (run {record.id}): {step.why}"
        )
        if step.state != "rolled_back":
            message(f"To reactivate it yourself: sparekey undo {record.id} --key {step.key}")
        failures = app.notify_of_rollback(connection, record, step, targets)
        message(*(f"not notified: {failed.target}: {failed.why}" for failed in failures))

    emergency = emergency_reporter(aside, connection, targets)

    def failed(run: str, why: str) -> None:
        message(f"run {run}: work on it failed: {why}", f"`sparekey show {run}` shows its progress.")

    def say(text: str) -> None:
        aside.call_later(lambda: message(text))

    with aside.running():
        try:
            app.run_worker(
                connection,
                over.is_set,
                lambda record, step: aside.call_later(lambda: rolled_back(record, step)),
                lambda run, why: aside.call_later(lambda: failed(run, why)),
                say,
                say,
                emergency,
            )
        except SparekeyError as error:
            why = f"the worker has ended: {error.message}; it monitors no run until it is restarted"
            emergency(app.OutageMessage(why, (), ()))
            raise
    message("stopped; unfinished runs wait for the next worker")


def outcome_line(step: "StepRecord") -> str:
    """What became of a key that was to be reactivated without a person."""
    if step.state == "rolled_back":
        return "rolled back"
    if step.state == "rollback_failed":
        return "ROLLBACK FAILED, the key is still inactive and its probe unhealthy"
    return "NOT REACTIVATED, only a person may reactivate it"
