"""Every help page and the main tables, as a terminal of 80 and of 120 columns shows them.

A change shows as a diff of tests/cli/snapshots; SNAPSHOTS=write writes them again.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sparekey import planner
from sparekey.cli import cli
from sparekey.report import RenderOptions, Subject, render
from support import sample_company as company

SNAPSHOTS = Path(__file__).parent / "snapshots"


def _help_pages(group: click.Group, parent: click.Context) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        context = click.Context(command, info_name=name, parent=parent)
        yield f"$ {context.command_path} --help\n{command.get_help(context)}\n"
        if isinstance(command, click.Group):
            yield from _help_pages(command, context)


def _check(name: str, text: str) -> None:
    path = SNAPSHOTS / name
    if os.environ.get("SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{path} differs; look at it, then: SNAPSHOTS=write"


@pytest.mark.parametrize("width", [80, 120])
def test_help(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    whole = click.Context(cli, info_name="sparekey", **cli.context_settings)
    text = f"$ sparekey --help\n{cli.get_help(whole)}\n" + "\n".join(_help_pages(cli, whole))
    assert max(map(len, text.splitlines())) <= width + 40  # an example's command line is never broken
    _check(f"help-{width}.txt", text)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("subject", ["audit", "plan", "run", "runs", "closing"])
def test_tables(subject: str, width: int) -> None:
    run = company.run("settled")
    values = {
        "audit": company.audit(),
        "plan": planner.make_plan(company.audit().snapshot, company.POLICY, company.NOW),
        "run": run,
        "runs": (run, company.run("watching")),
        "closing": run,
    }
    what: Subject = "run" if subject == "closing" else subject  # type: ignore[assignment]
    options = RenderOptions(width=width, brief=subject == "closing")
    text = "".join(render(what, values[subject], "table", options))
    _check(f"{subject}-{width}.txt", text)
