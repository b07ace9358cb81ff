"""The README's own commands, run as a shell script that ends at the first failure."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from sparekey.sandbox import Sandbox
from support.own_process import practice_environment, run_sparekey

README = Path(__file__).parents[2] / "README.md"


def test_the_sequence_of_the_readme_runs_under_set_e(tmp_path: Path) -> None:
    commands = re.findall(
        r"^    (sparekey (?:doctor|audit|plan|apply|runs|undo)[^#\n]*)", README.read_text(), re.MULTILINE
    )
    names = [command.split()[1] for command in commands]
    assert names == ["doctor", "audit", "plan", "apply", "runs", "undo"]
    script = "set -e\n" + "\n".join(
        command.strip()
        # Nobody is there to answer, and the run's id is only known then.
        .replace("apply plan.json", "apply plan.json --yes")
        .replace("RUN", "$(sparekey runs --format json | run_id)")
        for command in commands
    )
    (tmp_path / "sparekey").write_text(f'#!/bin/sh\nexec {sys.executable} -m sparekey "$@"\n')
    (tmp_path / "run_id").write_text(
        f"#!/bin/sh\nexec {sys.executable} -c \"import json, sys; print(json.load(sys.stdin)[0]['id'])\"\n"
    )
    for program in ("sparekey", "run_id"):
        (tmp_path / program).chmod(0o755)
    with Sandbox() as aws:
        env = practice_environment(aws, tmp_path / "home", PATH=f"{tmp_path}:{os.environ['PATH']}")
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Apply complete: " in done.stdout
        steps = json.loads((tmp_path / "plan.json").read_text())["steps"]
        gone = [step["key"] for step in steps if step["action"] == "deactivate"]
        assert gone
        now = aws.state.clock.now()
        assert all(aws.state.keys[key].status_at(now) == "Active" for key in gone)


TRANSCRIPT = re.compile(r"(?<=```console\n).*?(?=```\n<!-- end of the transcript -->)", re.DOTALL)


def test_the_transcript_of_the_readme_is_what_the_commands_print(tmp_path: Path) -> None:
    """What changes from run to run (key ids, digests, times) is compared by its form; SNAPSHOTS=write writes it."""
    with Sandbox() as aws:
        env = practice_environment(aws, tmp_path / "home", COLUMNS="100")
        shown, run = "", ""
        for command in re.findall(r"^\$ sparekey (.*)$", README.read_text(), re.MULTILINE):
            words = [run if word == "RUN" or word.startswith("r-") else word for word in command.split()]
            done = run_sparekey(words, env, tmp_path)
            assert done.returncode in (0, 3), done.stdout
            run = next(iter(re.findall(r"run (r-\w+) started", done.stdout)), run)
            shown += f"$ sparekey {' '.join(words)}\n{_shortened(done.stdout)}"
    text = README.read_text()
    if os.environ.get("SNAPSHOTS") == "write":
        README.write_text(TRANSCRIPT.sub(lambda _: shown, text))
    documented = TRANSCRIPT.search(README.read_text())
    assert documented
    assert len(documented[0].splitlines()) <= 26
    assert _form(documented[0]) == _form(shown)


def _shortened(output: str) -> str:
    """Without the endpoint of the practice AWS, which a real account does not have, and blank lines."""
    lines = (line.replace("\r", "") for line in output.splitlines())
    return "".join(re.sub(r" --endpoint-url \S+", "", line) + "\n" for line in lines if line.strip())


def _form(text: str) -> list[str]:
    text = re.sub(r"\bAKIA[0-9A-Z]{16}\b", "AKIA", text)
    text = re.sub(r"\b(r-[0-9a-f]{8}|[0-9a-f]{12})\b", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC|\d\d:\d\d:\d\dZ", "TIME", text)
    return text.splitlines()
