"""What leaves the house: the documented JSON, CSV that no spreadsheet reckons, text that moves no cursor."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support.cli_harness import ACCOUNT, AwsFrontend, CliHarness, cli_harness

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"
NASTY = ("=cmd", "+1", "@x", "-x", "=1+1@evil,x")
_PAIR = 'key = [{ age = "200d", used = { ago = "80d" } }, { age = "50d", used = { ago = "1h" } }]'
NASTY_COMPANY = "\n".join(
    (
        f'caller = {{ account = "{ACCOUNT}", user = "ops" }}',
        f'[[account]]\nid = "{ACCOUNT}"\nalias = "red\\u001b[31m\\u009b2J\\u202etxt"',
        '[[account.user]]\nname = "ops"\nkey = [{ age = "20d" }]',
        *(f'[[account.user]]\nname = "{name}"\n{_PAIR}' for name in NASTY),
    )
)


@pytest.fixture
def nasty(tmp_path: Path, capsys: "pytest.CaptureFixture[str]", door: AwsFrontend) -> Iterator[CliHarness]:
    with cli_harness(tmp_path, capsys, door, NASTY_COMPANY) as made:
        yield made


def _valid(kind: str, text: str) -> dict[str, Any]:
    received: dict[str, Any] = json.loads(text)
    jsonschema.validate(received, json.loads((SCHEMAS / f"{kind}-1.json").read_text()))
    assert received["schema"] == f"sparekey/{kind}/1"
    return received


@pytest.mark.slow
def test_json_is_as_documented(sk: CliHarness) -> None:
    audit = _valid("audit", sk("audit", "--format", "json").out)
    (account,) = audit["accounts"]
    assert {"id", "partition", "alias", "read_by", "as_of", "findings", "users"} <= set(account)
    (web,) = (user for user in account["users"] if user["name"] == "web")
    assert set(web) == {"name", "arn", "status", "active_keys", "keys", "findings"}
    assert {"id", "status", "created", "last_used"} == set(web["keys"][0])
    assert {"state", "at", "service", "region"} == set(web["keys"][0]["last_used"])
    assert web["findings"] == [{"rule": "two-active-keys", "status": "FAIL", "message": "2 active keys"}]
    coverage = {"accounts_read": 1, "accounts_unreadable": 0, "users_read": 5, "users_unreadable": 0}
    assert coverage.items() <= audit["coverage"].items()

    plan = _valid("plan", sk("plan", "-o", sk.plan, "--format", "json").out)
    step = plan["steps"][0]
    assert {"account", "user", "keep", "key", "action", "reason", "why", "release"} <= set(step)
    assert {"evidence", "preconditions"} <= set(step)

    done = sk("apply", sk.plan, "--yes", "--format", "json")
    assert done.code == 0
    run = _valid("run", done.out)
    (listed,) = json.loads(sk("runs", "--format", "json").out)
    assert listed["id"] == run["id"]
    (line,) = sk("runs", "--format", "jsonl").out.splitlines()
    assert json.loads(line) == listed
    steps = [json.loads(line) for line in sk("show", sk.run, "--format", "jsonl").out.splitlines()]
    assert [step["key"] for step in steps] == [step["key"] for step in run["steps"]]
    _valid("run", sk("show", sk.run, "--format", "json").out)
    _valid("run", sk("undo", sk.run, "--format", "json").out)


@pytest.mark.slow
def test_json_of_what_could_not_be_read_is_as_documented(sk: CliHarness) -> None:
    sk.deny("iam:ListAccessKeys", target="web")
    sk.deny("iam:GetAccessKeyLastUsed")
    _valid("audit", sk("audit", "--format", "json").out)
    _valid("plan", sk("plan", "--format", "json").out)
    sk.deny("iam:ListUsers")
    _valid("audit", sk("audit", "--format", "json").out)
    _valid("plan", sk("plan", "--format", "json").out)


@pytest.mark.parametrize("verb", ["audit", "plan"])
def test_no_cell_of_a_csv_starts_a_formula(nasty: CliHarness, verb: str) -> None:
    result = nasty(verb, "--format", "csv")
    rows = list(csv.reader(io.StringIO(result.out)))
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {f"'{name}" for name in NASTY} <= {cell for row in rows for cell in row}
    assert len({len(row) for row in rows}) == 1


def test_users_with_such_names_can_be_named(nasty: CliHarness) -> None:
    nasty.make_plan("--user", "=cmd", "--user=-x", expect=0)
    result = nasty("apply", nasty.plan, "--yes")
    assert result.code == 0
    assert nasty.inactive == {"=cmd/1", "-x/1"}
    assert "--user-name=-x " in result.err  # the AWS CLI would take `-x` for an option
    assert "--user-name==cmd " in result.err  # and zsh `=cmd` for the path of a command


@pytest.mark.parametrize("name", ["table", "json", "csv", "html", "asff", "ocsf"])
def test_no_format_moves_the_cursor(nasty: CliHarness, name: str) -> None:
    result = nasty("audit", "--format", name, "--all")
    assert result.code == 3
    assert not [char for char in result.out + result.err if not (char.isprintable() or char in "\n\r")]


def test_no_colour_and_whole_lines_for_a_pipe(sk: CliHarness) -> None:
    result = sk("audit")
    assert "\x1b" not in result.out
    assert any(len(line) > 80 for line in result.out.splitlines())
