"""`sparekey sandbox`."""

import sys
from pathlib import Path

import click

from sparekey.cli.help import command


@command(
    "sandbox",
    short_help="Serve a practice AWS on loopback.",
    category="Set up",
    examples=(("sparekey sandbox --port 4599", "serve the demo company on a fixed port"),),
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; 0 picks a free one."
)
@click.option(
    "--scenario",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Its users and faults (TOML). Default: the demo company.",
)
def sandbox_command(port: int, scenario: Path | None) -> None:
    """Serve a practice AWS on loopback, and print how to point any AWS client at it.

    It listens on 127.0.0.1 only, holds nothing real, and ends with Ctrl-C.
    """
    from sparekey import app

    app.sandbox(scenario, port, sys.stdout)
