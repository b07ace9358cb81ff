"""Runs may be kept elsewhere than in the state directory."""

from pathlib import Path

import pytest

from sparekey.cli import cli
from sparekey.cli.failures import run_guarded

_OF_RUNS = [
    ["runs"],
    ["show", "r-1"],
    ["report", "r-1"],
    ["ledger", "verify"],
    ["ledger", "export"],
]


@pytest.mark.parametrize("command", _OF_RUNS, ids=" ".join)
def test_the_option_says_where_runs_are_kept(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPAREKEY_HOME", str(tmp_path))
    monkeypatch.setenv("SPAREKEY_DATABASE_URL", "")
    assert run_guarded(cli, [*command, "--database-url", "mysql://keeper:secret@127.0.0.1/none"]) == 2
    result = capsys.readouterr().err
    assert "not one of PostgreSQL" in result
    assert "secret" not in result


@pytest.mark.parametrize("verb", ["apply", "console", "delete", "resume", "stop", "undo", "worker"])
def test_every_verb_that_runs_has_it(verb: str) -> None:
    assert any("--database-url" in option.opts for option in cli.commands[verb].params)
