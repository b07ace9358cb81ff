"""What a newcomer meets first: doctor, help, completion, a starter policy, quiet and verbose output."""

import json
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from sparekey.aws.gateway import AwsGateway
from sparekey.cli import cli, main
from sparekey.cli.help import CATEGORIES, Command, CommandGroup
from sparekey.cli.topics import TOPICS
from sparekey.settings import load_policy
from sparekey.states import RUN_STATES
from support.cli_harness import ACCOUNT, CliHarness


def test_doctor_names_identity_state_policy_worker_clock_and_permissions(sk: CliHarness) -> None:
    result = sk("doctor")
    lines = result.out.splitlines()
    assert result.code == 0
    assert f"ok       identity: arn:aws:iam::{ACCOUNT}:user/ops, account {ACCOUNT}" in lines
    assert f"ok       state: {sk.home} can be read and written" in lines
    assert "ok       read access: iam:ListUsers, iam:ListAccessKeys, iam:GetAccessKeyLastUsed" in lines
    assert "ok       credentials: do not expire, or can be renewed" in lines
    assert "ok       reachability: STS and IAM answer" in lines
    assert [line for line in lines if line.startswith("note     policy: no file")]
    assert [
        line for line in lines if line.startswith("note     worker: no worker is alive; 0 runs unfinished")
    ]
    assert sk.writes == 0


def test_doctor_exits_with_1_where_reading_is_not_allowed(sk: CliHarness) -> None:
    sk.deny("iam:ListUsers")
    result = sk("doctor")
    assert result.code == 1
    assert (
        "PROBLEM  read access: not allowed: iam:ListUsers\n         → `sparekey iam-policy audit`"
        in result.out
    )


def test_doctor_tells_an_endpoint_that_does_not_answer_from_one_that_refuses(sk: CliHarness) -> None:
    sk.deny("iam:ListAccountAliases")
    assert "ok       reachability: STS and IAM answer" in sk("doctor").out
    sk.patch.setenv("AWS_ENDPOINT_URL_IAM", "http://127.0.0.1:9")
    result = sk("doctor")
    assert result.code == 1
    assert "PROBLEM  reachability: " in result.out


def test_doctor_checks_the_rest_without_credentials(sk: CliHarness) -> None:
    sk.patch.delenv("AWS_ACCESS_KEY_ID")
    result = sk("doctor")
    assert result.code == 1
    assert "PROBLEM  identity: " in result.out
    assert "ok       state: " in result.out


@pytest.mark.parametrize(
    ("seconds", "line", "code"),
    [
        (1, "ok       clock: agrees with AWS's", 0),
        (-240, "note     clock: 240 s behind AWS's", 0),
        (360, "PROBLEM  clock: 360 s ahead of AWS's", 1),
    ],
)
def test_doctor_compares_the_clock_with_the_one_of_aws(
    sk: CliHarness, seconds: int, line: str, code: int
) -> None:
    sk.patch.setattr(AwsGateway, "clock_offset", lambda _self: timedelta(seconds=seconds))
    result = sk("doctor")
    assert (result.code, line in result.out.splitlines()) == (code, True)


def test_doctor_names_a_policy_that_is_wrong_and_a_state_that_is_damaged(sk: CliHarness) -> None:
    sk.policy("max_key_ages = 3\n")
    (sk.home / "sparekey.db").write_bytes(b"no database at all" * 100)
    (sk.home / "sparekey.db").chmod(0o600)
    result = sk("doctor")
    assert result.code == 1
    assert "PROBLEM  policy: " in result.out
    assert "PROBLEM  state: " in result.out


def test_config_init_writes_a_policy_that_is_valid_and_means_the_defaults(sk: CliHarness) -> None:
    result = sk("config", "init")
    assert result.code == 0
    path = sk.home / "sparekey.toml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_policy(path) == load_policy(None)
    assert sk("config", "validate").code == 0
    path.write_text("# mine\n")
    assert sk("config", "init").code == 1
    assert path.read_text() == "# mine\n"


def test_the_examples_of_the_starter_policy_are_valid(sk: CliHarness, tmp_path: Path) -> None:
    sk("config", "init")
    text = (sk.home / "sparekey.toml").read_text()
    head, _, examples = text.partition("# windows")
    lines = ("# windows" + examples).splitlines()
    code = [
        line.removeprefix("# ")
        for line in lines
        if line.startswith(("# [", "# ")) and ("=" in line or "[[" in line)
    ]
    path = tmp_path / "all.toml"
    path.write_text(head + "\n".join(code) + "\n")
    path.chmod(0o600)
    policy = load_policy(path)
    assert [len(part) for part in (policy.exempt, policy.rotators, policy.probes, policy.windows)] == [
        1,
        1,
        1,
        1,
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_shell(shell: str, sk: CliHarness) -> None:
    result = sk("completion", shell)
    assert result.code == 0
    assert "_SPAREKEY_COMPLETE" in result.out
    interpreter = shutil.which(shell)
    if interpreter:
        done = subprocess.run(
            [interpreter, "-n"], input=result.out, text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_completion_completes_commands_and_formats() -> None:
    def complete(words: str, number: int) -> set[str]:
        env = {"_SPAREKEY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        out = CliRunner().invoke(cli, prog_name="sparekey", env=env).output
        return {line.partition(",")[2] for line in out.splitlines()}

    assert "doctor" in complete("sparekey do", 1)
    assert {"table", "json", "jsonl", "html"} <= complete("sparekey audit --format ", 3)


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_a_topic_of_help_fits_on_a_terminal(topic: str, sk: CliHarness) -> None:
    result = sk("help", topic)
    assert result.code == 0
    assert len(result.out.splitlines()) > 3
    assert max(map(len, result.out.splitlines())) <= 120


def test_help_of_a_command_is_its_help(sk: CliHarness) -> None:
    assert sk("help", "ledger", "verify").out == sk("ledger", "verify", "--help").out
    assert sk("help").out == sk("--help").out
    assert "there is no command or topic 'aplly'" in sk("help", "aplly").error


def _commands() -> list[Command | CommandGroup]:
    found = [command for command in cli.commands.values() if isinstance(command, Command | CommandGroup)]
    assert len(found) == len(cli.commands)
    return found


def test_every_command_has_a_category_and_an_example_that_it_takes() -> None:
    # Without a parent, click would remember help options other than those of the command line.
    whole = click.Context(cli, info_name="sparekey", **cli.context_settings)
    for command in _commands():
        assert command.category in CATEGORIES, command.name
        assert command.examples, command.name
        for line, what in command.examples:
            words = (
                line.replace('"$(', "").replace(')"', "").removeprefix("eval ").partition(" > ")[0].split('"')
            )
            arguments = [part for i, text in enumerate(words) for part in ([text] if i % 2 else text.split())]
            assert arguments[:2] == ["sparekey", command.name], line
            context: click.Context | None = None
            target: click.Command = command
            rest = arguments[2:]
            if isinstance(target, click.Group):
                target, rest = target.commands[rest[0]], rest[1:]
            context = target.make_context(command.name or "", list(rest), parent=whole)
            context.close()
            assert what[0].islower() or what[0].isdigit(), what


def test_the_states_that_runs_offers_are_all_there_are() -> None:
    [option] = [option for option in cli.commands["runs"].params if option.name == "states"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == tuple(RUN_STATES)


def test_quiet_leaves_only_results_and_what_went_wrong(sk: CliHarness) -> None:
    result = sk("audit", "-q")
    assert (result.code, result.err) == (3, "")
    sk.make_plan("--user", "web")
    result = sk("apply", sk.plan, "--yes", "--no-watch", "-q")
    assert "confirmed Inactive" not in result.err
    assert "To revert manually:" in result.err
    assert result.out.startswith("Apply complete: 1 deactivated")


def test_verbose_shows_each_step_and_the_whole_run(sk: CliHarness) -> None:
    sk.make_plan("--user", "web")
    result = sk("apply", sk.plan, "--yes", "--no-watch", "-v")
    assert "deactivated, verifying …" in result.err
    assert "requests: " in result.out


def test_debug_logs_calls_and_no_secret(sk: CliHarness) -> None:
    result = sk("audit", "--debug")
    assert f"iam:ListUsers in account {ACCOUNT}: HTTP 200, request " in result.err
    assert sk.aws.operator.secret not in result.err


def test_apply_prints_the_run_before_its_first_write_and_closes_in_six_lines(sk: CliHarness) -> None:
    sk.make_plan("--user", "web")
    result = sk("apply", sk.plan, "--yes", "--no-watch")
    events = [line for line in result.err.splitlines() if "Z  " in line]
    assert events[0].endswith(f"run {sk.run} started")
    assert [line.rpartition(": ")[2] for line in events[1:]] == [
        "deactivating …",
        "confirmed Inactive (3 consistent reads)",
    ]
    assert result.out.splitlines() == [
        "Apply complete: 1 deactivated, 0 held, 0 failed.",
        f"Run {sk.run}: done, not watched",
        f"Undo:    sparekey undo {sk.run}",
        f"Details: sparekey show {sk.run}",
    ]


def test_undo_closes_with_what_is_active_again_and_what_is_not(sk: CliHarness) -> None:
    sk.make_plan("--user", "web")
    sk("apply", sk.plan, "--yes", "--no-watch")
    result = sk("undo", sk.run)
    assert result.code == 0
    assert result.out.splitlines() == [
        "Undo complete: 1 active again, 0 not.",
        f"Note:    undo by arn:aws:iam::{ACCOUNT}:user/ops",
        f"Details: sparekey show {sk.run}",
    ]


def test_undo_can_be_rehearsed(sk: CliHarness) -> None:
    sk.make_plan("--user", "web")
    sk("apply", sk.plan, "--yes", "--no-watch")
    result = sk("undo", sk.run, "--dry-run")
    assert (result.code, result.out) == (0, f"{ACCOUNT}  web  {sk.key('web', 1)}: would be reactivated\n")
    assert "Dry run: nothing was changed." in result.err
    assert sk.inactive == {"web/1"}
    assert "AKIAIOSFODNN7EXAMPLE" in sk("undo", sk.run, "--dry-run", "--key", "AKIAIOSFODNN7EXAMPLE").error


def test_runs_are_listed_newest_first_and_can_be_chosen(sk: CliHarness) -> None:
    ids = []
    for user in ("web", "batch"):
        sk.make_plan("--user", user)
        sk("apply", sk.plan, "--yes", "--no-watch")
        ids.append(sk.run)

    def listed(*args: str) -> list[str]:
        return [run["id"] for run in json.loads(sk("runs", "--format", "json", *args).out)]

    assert listed() == ids[::-1]
    assert listed("--limit", "1") == ids[1:]
    assert listed("--state", "unwatched") == ids[::-1]
    assert listed("--state", "watching") == []


def test_the_summary_of_an_audit_has_no_users(sk: CliHarness) -> None:
    result = sk("audit", "--summary")
    assert result.code == 3
    assert "web" not in result.out
    assert (
        "3 of 5 users have spare keys.\nRead: 1 account, 5 users, 9 access keys. Not read: nothing."
        in result.out
    )


def test_windows_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: "pytest.CaptureFixture[str]"
) -> None:
    monkeypatch.setattr("sparekey.cli.os", SimpleNamespace(name="nt"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines()[0].startswith("error: sparekey does not run on Windows")


def test_whatever_a_command_prints_as_its_result_can_go_to_a_file(sk: CliHarness) -> None:
    sk.make_plan("--user", "web")
    sk("apply", sk.plan, "--yes", "--no-watch")
    for number, command in enumerate(
        (
            ("iam-policy", "audit"),
            ("config", "show"),
            ("config", "show", "--format", "json"),
            ("ledger", "export"),
            (
                "athena-ddl",
                "t",
                "s3://logs",
                "--account",
                "111122223333",
                "--region",
                "us-east-1",
                "--since",
                "2026-01-01",
            ),
            ("show", sk.run),
            ("runs",),
        )
    ):
        printed = sk(*command)
        assert (printed.code, bool(printed.out)) == (0, True), printed.err
        path = sk.folder / f"out-{number}"
        written = sk(*command, "-o", path)
        assert (written.code, written.out) == (printed.code, ""), command
        assert path.stat().st_mode & 0o777 == 0o600
        assert "".join(path.read_text().split()) == "".join(printed.out.split()), command
