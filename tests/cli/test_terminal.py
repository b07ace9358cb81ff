"""What differs on a terminal: a pager for what does not fit, and a bar for a run of many keys."""

import io
import os
from datetime import UTC, datetime

import click
import pytest

from sparekey.cli import output, verbosity
from sparekey.cli.run_events import RunEvents
from sparekey.ledger.records import LedgerEntry

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def paged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("LESS", raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((80, 24)))
    monkeypatch.setattr(click, "echo_via_pager", lambda text, color: texts.append(text))
    return texts


def test_only_what_does_not_fit_on_a_terminal_goes_through_the_pager(
    paged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    output.print_paged(["line\n"] * 20)
    assert (paged, screen.getvalue().count("line")) == ([], 20)
    output.print_paged(["line\n"] * 30)
    assert paged == ["line\n" * 30]
    assert os.environ["LESS"] == "FRX"


def test_a_pipe_has_no_pager_and_a_dumb_terminal_neither(
    paged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stdout", pipe)
    output.print_paged(["line\n"] * 30)
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    output.print_paged(["line\n"] * 30)
    assert (paged, pipe.getvalue().count("line")) == ([], 30)


def _entry(kind: str, number: int, **more: object) -> LedgerEntry:
    key = {"account": "111122223333", "user": "web", "key": f"AKIA{number}"}
    return LedgerEntry("r-1", number, AT, kind, {**key, **more}, "", "")


@pytest.mark.parametrize(("keys", "level", "lines"), [(11, 0, 1), (10, 0, 11), (11, 1, 11)])
def test_a_run_of_many_keys_has_a_bar_and_lines_only_for_what_went_wrong(
    keys: int,
    level: int,
    lines: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verbosity.reset()
    verbosity.VERBOSITY.level = level
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    printed: list[str] = []
    for place in ("output", "run_events"):
        monkeypatch.setattr(f"sparekey.cli.{place}.message", lambda *texts: printed.extend(texts))
    with RunEvents(keys).shown() as events:
        for number in range(10):
            events(_entry("confirmed", number, status="Inactive", reads=3))
        events(_entry("failed", 10, why="AccessDenied", final=True))
    verbosity.reset()
    assert len(printed) == lines
    assert printed[-1] == "09:00:00Z  111122223333  web  AKIA10: failed (AccessDenied)"
    assert (events.run, events.confirmed) == ("r-1", 10)
    assert ("keys confirmed Inactive" in screen.getvalue()) == (keys > 10 and level == 0)


def test_ctrl_c_before_the_first_entry_says_that_nothing_was_changed(
    capsys: "pytest.CaptureFixture[str]",
) -> None:
    verbosity.reset()
    RunEvents(3).interrupted("sparekey apply plan.json")
    assert capsys.readouterr().err == "Interrupted before the run started. Nothing was changed.\n"
    events = RunEvents(3)
    events(_entry("confirmed", 1, status="Inactive", reads=3))
    events.interrupted("sparekey apply plan.json")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith("Interrupted: 1 of 3 keys are confirmed Inactive")
    assert [line.split()[0] for line in lines[2:]] == ["Continue:", "Undo:", "Details:"]
