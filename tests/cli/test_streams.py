"""Standard streams that are closed, full or gone: the report and the exit code are as always."""

import json
import os
import subprocess
import sys
from pathlib import Path

from sparekey import app
from support.cli_harness import CliHarness, CommandResult

SPAREKEY = [sys.executable, "-m", "sparekey"]


def by_shell(sk: CliHarness, line: str) -> CommandResult:
    """How a shell's line ends, `sk` in it standing for the command."""
    command = f'sk() {{ {SPAREKEY[0]} -m sparekey "$@"; }}; {line}'
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        check=False,
        text=True,
        env=dict(os.environ),
        cwd=sk.folder,
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


def test_the_report_does_not_need_stderr_or_stdin(sk: CliHarness) -> None:
    result = by_shell(sk, "sk audit 2>&- <&-")
    assert result.code == 3
    assert result.out.startswith("two-active-keys: ")
    assert result.out.count("FAIL") == 3
    assert result.err == ""


def test_a_closed_stdout_keeps_the_exit_code(sk: CliHarness) -> None:
    assert by_shell(sk, "sk iam-policy audit >&-") == CommandResult(0, "", "")
    assert by_shell(sk, "sk usage >&- 2>&- <&-") == CommandResult(2, "", "")


def test_a_wrong_option_and_an_error_need_no_stderr(sk: CliHarness) -> None:
    assert by_shell(sk, "sk audit --nonsense 2>/dev/full").code == 2
    assert by_shell(sk, "sk usage 2>&-; echo $?").out == "2\n"


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """Else what libraries write to stderr would end in the ledger."""
    code = (
        "import os, sys; from sparekey import cli; cli._open_standard_streams();"
        "assert None not in (sys.stdin, sys.stdout, sys.stderr);"
        "sys.exit(os.open('file', os.O_CREAT | os.O_WRONLY))"
    )
    command = f'"{sys.executable}" -c "{code}" <&- >&- 2>&-'
    assert subprocess.run(["/bin/sh", "-c", command], check=False, cwd=tmp_path).returncode > 2


# --- plan -o - ---


def test_a_plan_goes_to_stdout_by_a_dash(sk: CliHarness) -> None:
    result = sk("plan", "-o", "-")
    assert result.code == 0
    assert "AKIA" in result.err  # the table
    written = sk.folder / "piped.json"
    written.write_text(result.out)
    assert app.read_plan(written).deactivations
    assert not (sk.folder / "-").exists()


def test_a_plan_on_stdout_is_ascii(sk: CliHarness) -> None:
    result = sk("plan", "-o", "-", "--force", sk.key("busy", 1), "--because", "schön 🔑")
    assert result.out.isascii()
    assert "sch\\u00f6n \\ud83d\\udd11" in result.out
    assert "schön 🔑" in json.dumps(json.loads(result.out), ensure_ascii=False)


def test_a_plan_and_another_report_do_not_share_stdout(sk: CliHarness) -> None:
    result = sk("plan", "-o", "-", "--format", "json")
    assert result.code == 2
    assert "both write to stdout" in result.error
