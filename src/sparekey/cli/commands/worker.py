"""`sparekey worker`."""

import signal
import threading
from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import connection_options, database_option, notify_option
from sparekey.cli.secondary_output import SecondaryOutput
from sparekey.cli.worker_log import WorkerLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sparekey.app import Connection, DeliveryFailure, OutageMessage
    from sparekey.model import RunRecord, StepRecord


@command(
    "worker",
    short_help="Execute and monitor runs.",
    category="Watch",
    examples=(
        (
            "sparekey worker --notify slack:https://hooks.slack.example/T0/B0/x",
            "execute and monitor all runs, and report rollbacks",
        ),
        (
            "sparekey worker --role SparekeyApply --log-format json",
            "in other accounts, with a log for machines",
        ),
    ),
)
@click.option(
    "--log-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Log lines for people, or one JSON object a line.",
)
@notify_option
@database_option
@connection_options()
def worker_command(log_format: str, targets: tuple[str, ...], connect: "Callable[[], Connection]") -> None:
    """Execute the runs that were handed over and monitor those that were applied, until Ctrl-C or SIGTERM.

    Logs to stderr which runs it monitors, each probe that turns, each key that it writes, and each rollback with its
    reason.

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
    log = WorkerLog(json_lines=log_format == "json")
    connection = connect()
    log.write(f"working as {connection.caller(()).arn}; Ctrl-C ends")
    if connection.gateway.credentials_expire_at():
        log.write(
            "note: these credentials cannot be renewed (a session, or a sign-in with SSO or aws login): once they "
            "expire, no run is monitored and no key reactivated until the worker is restarted",
            "warning",
        )
    app.check_targets(connection, targets)
    _log_open_runs(log)
    aside = SecondaryOutput()

    reports = _Reports(log, connection, targets)

    def later(call: "Callable[..., None]") -> "Callable[..., None]":
        return lambda *arguments: aside.call_later(lambda: call(*arguments))

    with aside.running():
        try:
            app.run_worker(
                connection,
                over.is_set,
                on_rollback=later(reports.rolled_back),
                on_failure=later(reports.failed),
                on_notice=later(reports.notice),
                on_state=later(reports.notice),
                on_emergency=later(reports.emergency),
                on_event=later(log.event),
            )
        except SparekeyError as error:
            why = f"the worker has ended: {error.message}; it monitors no run until it is restarted"
            later(reports.emergency)(app.OutageMessage(why, (), ()))
            raise
    log.write("stopped; unfinished runs wait for the next worker")


class _Reports:
    """What a person must hear of: in the log, and by the notification targets."""

    def __init__(self, log: "WorkerLog", connection: "Connection", targets: tuple[str, ...]) -> None:
        self._log, self._connection, self._targets = log, connection, targets

    def rolled_back(self, record: "RunRecord", step: "StepRecord") -> None:
        """A rollback, one that failed, or a rotation that needs a person."""
        from sparekey import app

        self._log.write(
            f"{outcome_line(step)}: {step.account}  {step.user}  {step.key} (run {record.id}): {step.why}",
            "warning" if step.state in ("rolled_back", "stalled") else "error",
            run=record.id,
            account=step.account,
            user=step.user,
            key=step.key,
        )
        if step.state not in ("rolled_back", "stalled", "orphaned"):
            self._log.write(f"To reactivate it yourself: sparekey undo {record.id} --key {step.key}", "error")
        self._not_notified(app.notify_of_rollback(self._connection, record, step, self._targets))

    def emergency(self, what: "OutageMessage") -> None:
        """The state cannot be used, or can be again."""
        from sparekey import app

        self._log.write(what.text, "error")
        self._not_notified(app.notify_of_state(self._connection, what, self._targets))

    def failed(self, run: str, why: str) -> None:
        """Work on a run that failed."""
        self._log.write(f"run {run}: work on it failed: {why}", "error", run=run)
        self._log.write(f"`sparekey show {run}` shows its progress.")

    def notice(self, text: str) -> None:
        """A fault of the state, or its end."""
        self._log.write(text, "warning")

    def _not_notified(self, failures: "Iterable[DeliveryFailure]") -> None:
        for failure in failures:
            self._log.write(f"not notified: {failure.target}: {failure.why}", "warning")


def _log_open_runs(log: "WorkerLog") -> None:
    """Log what there is to monitor when the worker starts; a state that cannot be read is reported by the worker."""
    from sparekey import app
    from sparekey.errors import SparekeyError
    from sparekey.formatting import moment, plural
    from sparekey.states import RUN_STATES, STEP_STATES

    try:
        with app.run_records() as runs:
            records = [record for record in runs.list() if not RUN_STATES[record.state].ended]
    except SparekeyError:
        return
    if not records:
        log.write("no unfinished run; waiting for one")
    for record in records:
        watched = sum(STEP_STATES[step.state].phase == "watching" for step in record.steps)
        until = f" until {moment(record.watch_until)}" if record.watch_until else ""
        log.write(
            f"run {record.id}: {RUN_STATES[record.state].label}, {plural(watched, 'key')} watched{until}",
            run=record.id,
        )


def outcome_line(step: "StepRecord") -> str:
    """What became of a key that a person must hear of."""
    if step.state == "stalled":
        return "STALLED, applications have not moved"
    if step.state == "orphaned":
        return "NEW KEY LOST, it is deactivated"
    if step.state == "rolled_back":
        return "rolled back"
    if step.state == "rollback_failed":
        return "ROLLBACK FAILED, the key is still inactive and its probe unhealthy"
    return "NOT REACTIVATED, only a person may reactivate it"
