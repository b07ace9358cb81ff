"""`--help` answers at once, since it imports next to nothing; and every command has one."""

import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from sparekey.cli import cli
from sparekey.cli.failures import run_guarded

# Beside the standard library. No time is asserted here: this is what the 150 ms are spent on.
MAY_IMPORT = {"click", "sparekey", "sparekey.cli"}
_WHAT_HELP_IMPORTS = """
import json, sys
before = set(sys.modules)
from sparekey.cli import cli
from sparekey.cli.failures import run_guarded
code = run_guarded(cli, sys.argv[1:])
json.dump([code, sorted(set(sys.modules) - before)], sys.stderr)
"""


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["apply", "--help"], ["audit", "--help"]])
def test_help_imports_click_the_standard_library_and_the_command_line(args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WHAT_HELP_IMPORTS, *args], capture_output=True, text=True, check=True
    )
    code, imported = json.loads(done.stderr)
    assert code == 0
    assert done.stdout
    packages = {name.split(".")[0] for name in imported} - sys.stdlib_module_names
    ours = {".".join(name.split(".")[:2]) for name in imported if name.startswith("sparekey")}
    assert (packages - {"sparekey"}) | ours == MAY_IMPORT


def _commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from _commands(command, *path, name)


@pytest.mark.parametrize("path", sorted(_commands(cli)), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...], capsys: "pytest.CaptureFixture[str]") -> None:
    assert run_guarded(cli, [*path, "--help"]) == 0
    result = capsys.readouterr()
    assert result.err == ""
    assert result.out.startswith("Usage: ")
    assert len(result.out.splitlines()) > 5


def test_no_command_is_cut_short_in_the_overview(capsys: "pytest.CaptureFixture[str]") -> None:
    assert run_guarded(cli, ["--help"]) == 0
    overview = capsys.readouterr().out
    assert not [line for line in overview.splitlines()[1:] if line.endswith("...")]
    assert all(f"  {name} " in overview for name in cli.commands)


def test_nothing_asked_shows_the_overview_as_a_misuse(capsys: "pytest.CaptureFixture[str]") -> None:
    assert run_guarded(cli, []) == 2
    result = capsys.readouterr()
    assert result.out == ""
    assert "Usage: " in result.err
