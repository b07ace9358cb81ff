"""Delivery of results: reports, Security Hub, notifications."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sparekey import notify, report
from sparekey.app.connection import Connection
from sparekey.app.run_records import run_records
from sparekey.errors import BadInputError
from sparekey.model import Audit, RunRecord, StepRecord
from sparekey.report.asff import SecurityHubResult, send
from sparekey.report.json import read_audit
from sparekey.runs.emergency import OutageMessage


def render_report(what: str, name: str, look: report.RenderOptions = report.DEFAULT_OPTIONS) -> Iterator[str]:
    """Report on a run, by its id, or on an audit, by the file its JSON was written to."""
    path = Path(what)
    if not path.is_file():
        with run_records() as runs:
            record = runs.show(what)
        yield from report.render("run", record, name, look)
        return
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"the audit {path} cannot be read: {error.strerror}") from error
    yield from report.render("audit", read_audit(content), name, look)


def send_to_security_hub(connection: Connection, audit: Audit) -> tuple[SecurityHubResult, ...]:
    """Bring Security Hub in every account to what the audit shows, each with its own credentials."""
    return send(audit, lambda account: connection.account(account.id).security_hub(), connection.clock)


def check_targets(connection: Connection, targets: Sequence[str]) -> None:
    """Raise BadInputError for a notification target that cannot work."""
    if targets:
        notify.check(targets, _settings(connection))


def notify_of_audit(
    connection: Connection, audit: Audit, targets: Sequence[str]
) -> tuple[notify.DeliveryFailure, ...]:
    """Notify of an audit; failures are returned, never raised."""
    return notify.send(targets, notify.of_audit(audit), _settings(connection)) if targets else ()


def notify_of_run(
    connection: Connection, record: RunRecord, targets: Sequence[str]
) -> tuple[notify.DeliveryFailure, ...]:
    """Notify of a run and of each automatic rollback in it; failures are returned, never raised."""
    if not targets:
        return ()
    settings = _settings(connection)
    messages = [notify.of_run(record)]
    back = [
        step
        for step in record.steps
        if step.state in ("rolled_back", "rollback_failed")
        or step.not_reactivated in ("rollback", "no-active-key")
    ]
    messages += [notify.of_rollback(record, step) for step in back]
    return tuple(failure for message in messages for failure in notify.send(targets, message, settings))


def notify_of_rollback(
    connection: Connection, record: RunRecord, step: StepRecord, targets: Sequence[str]
) -> tuple[notify.DeliveryFailure, ...]:
    """Notify of an automatic rollback; failures are returned, never raised."""
    return notify.send(targets, notify.of_rollback(record, step), _settings(connection))


def notify_of_state(
    connection: Connection, outage: OutageMessage, targets: Sequence[str]
) -> tuple[notify.DeliveryFailure, ...]:
    """Notify that the state cannot be used, or can again; failures are returned, never raised."""
    if not targets:
        return ()
    message = notify.of_state(os.uname().nodename, outage.text, outage.watched, outage.unwatched)
    return notify.send(targets, message, _settings(connection))


def _settings(connection: Connection) -> notify.NotifySettings:
    return notify.settings_from(os.environ, publish=connection.gateway.own_account().publish)
