"""The tutorial's own commands, run one after the other on the practice AWS, and the lines that it shows."""

import re
from pathlib import Path

from sparekey.sandbox import Sandbox
from support.own_process import practice_environment, run_sparekey

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"


# What differs from one run of the tutorial to the next.
_VARIES = {
    r"\b\d{4}-\d\d-\d\d \d\d:\d\d UTC": "TIME",
    r"\b\d\d:\d\d:\d\dZ": "TIME",
    r"\br-[0-9a-f]{8}\b": "RUN",
    r"\b\d+ entries  head [0-9a-f]{64}\b": "HEAD",
}


def _form(line: str) -> str:
    for pattern, name in _VARIES.items():
        line = re.sub(pattern, name, line)
    return re.sub(r"\s+", " ", line).strip()


def test_every_command_of_the_tutorial_prints_what_is_shown(tmp_path: Path) -> None:
    blocks = re.findall(r"```console\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    commands = [part.partition("\n")[0] for part in parts]
    assert [command.split()[1] for command in commands] == [
        *("doctor", "audit", "plan", "usage", "apply", "runs", "show", "undo", "report", "ledger"),
    ]
    with Sandbox() as aws:
        env = practice_environment(aws, tmp_path / "tutorial-state", COLUMNS="120")
        run = ""
        for part in parts:
            command, _, shown = part.partition("\n")
            done = run_sparekey(command.replace("RUN", run).split()[1:], env, tmp_path)
            assert done.returncode in (0, 3 if " audit" in command else 0), done.stdout
            run = next(iter(re.findall(r"run (r-\w+) started", done.stdout)), run)
            printed = {_form(line) for line in done.stdout.splitlines()}
            missing = [line for line in shown.splitlines() if line and _form(line) not in printed]
            assert missing == [], f"{command}\n{done.stdout}"
            assert shown.strip(), f"{command}: the tutorial shows nothing of what it prints"
    assert "<html" in (tmp_path / "run.html").read_text()
