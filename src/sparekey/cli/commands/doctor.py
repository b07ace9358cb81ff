"""`sparekey doctor`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparekey.cli.help import command
from sparekey.cli.options import connection_options, database_option
from sparekey.cli.output import print_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sparekey.app import Check, Connection


@command(
    "doctor",
    short_help="Check credentials, permissions, policy, state, worker and clock.",
    category="Set up",
    examples=(("sparekey doctor", "what stands in the way, and what to do about it"),),
)
@database_option
@connection_options()
@click.pass_context
def doctor_command(context: click.Context, connect: "Callable[[], Connection]") -> int:
    """Check what a run needs: policy, state, worker, identity, credentials, clock and permissions.

    One line for each check, and what to do about it. Changes nothing in AWS; a state directory that is missing is
    made. Exit code 1: there is a problem.
    """
    from sparekey import app

    config: Path | None = context.params.get("config")
    problems = []

    def lines() -> "Iterator[str]":
        for check in app.doctor(connect, config):
            problems.extend([check] if check.state == "problem" else [])
            yield _line(check)

    print_report(lines())
    return 1 if problems else 0


def _line(check: "Check") -> str:
    from sparekey.formatting import clean

    label = {"ok": "ok", "note": "note", "problem": "PROBLEM"}[check.state]
    action = f"\n{'':9}→ {check.action}" if check.action else ""
    return clean(f"{label:8} {check.name}: {check.found}{action}") + "\n"
