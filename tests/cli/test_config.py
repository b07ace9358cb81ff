"""`config validate` and `config show`: the policy in force, and what is wrong with one, by file and field."""

import json

import pytest

from support.cli_harness import CliHarness

HTTP = '[[probes]]\nname = "web"\nkind = "http"\nuser = "web"\nurl = "http://127.0.0.1:9/"\n'
EXEMPT = '[[exempt]]\nuser = "web"\nowner = "team"\nreason = "moving"\nexpires = 2099-01-01\n'
MUTELIST = '[[mutelist]]\nfile = "mute.yml"\nowner = "security"\nuntil = 2099-01-01\n'
MUTED = (
    "Mutelist:\n  Accounts:\n    '*':\n      Checks:\n        iam_user_two_active_access_key:\n"
    "          Regions: ['*']\n          Resources: ['^batch$']\n"
)


def test_the_defaults_hold_where_there_is_no_file(sk: CliHarness) -> None:
    result = sk("config", "validate")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"There is no policy file {sk.home / 'sparekey.toml'}: the defaults hold.\n"
    shown = {line.split()[0]: line.split()[-1] for line in sk("config", "show").out.splitlines()}
    assert shown["quiet"] == shown["probes"] == "default"


def test_a_policy_is_shown_with_where_each_value_is_from(sk: CliHarness) -> None:
    path = sk.policy('quiet = "50d"\nwindows = ["Mon-Thu 09:00-16:00"]\n' + EXEMPT + HTTP + MUTELIST)
    (sk.home / "mute.yml").write_text(MUTED)
    (sk.home / "mute.yml").chmod(0o600)
    result = sk("config", "validate")
    assert result.code == 0
    assert result.out.startswith(
        f"{path} is valid: 2 exemptions, 0 rotators, 0 never_reactivate entries, 1 probe, 1 change window; digest "
    )
    rows = {row["field"]: row for row in json.loads(sk("config", "show", "--format", "json").out)}
    assert rows["quiet"] == {"field": "quiet", "value": "50d", "source": str(path)}
    assert rows["settle"] == {"field": "settle", "value": "7d", "source": "default"}
    assert rows["exempt[1].expires"] == {
        "field": "exempt[1].expires",
        "value": "2099-01-01",
        "source": str(path),
    }
    assert rows["exempt[1].account"]["source"] == "default"
    assert rows["exempt[2].user"]["value"] == "^batch$"
    assert rows["exempt[2].user"]["source"] == str(sk.home / "mute.yml")
    assert rows["probes[1].every"] == {"field": "probes[1].every", "value": "5m", "source": "default"}
    assert rows["probes[1].kind"]["source"] == str(path)
    assert rows["mutelist[1].file"]["value"] == "mute.yml"
    assert sk("config", "show").out.count("\n") == len(rows)
    assert len(sk.aws.state.calls) == 0


WRONG = [
    ('windows = ["Mon 9-10"]\n', "field `windows`: entry 1: 'Mon 9-10' is not a change window"),
    (HTTP + HTTP, "[[probes]] 2 ('web'): field `name`: two probes are called 'web'"),
    (HTTP.replace('"http"', '"nope"'), "[[probes]] 1 ('web'): field `kind`: there is no such kind: 'nope'"),
    (
        HTTP + 'match = "regex"\naccount = "("\n',
        "[[probes]] 1 ('web'): field `account`: '(' is not a regular",
    ),
    (HTTP + 'body = "(a)\\\\1"\n', "[[probes]] 1 ('web'): field `body`: '(a)\\\\1' uses a backreference"),
    (EXEMPT + 'rule = "nope"\n', "[[exempt]] 1 ('web'): field `rule`: there is no such rule: 'nope'"),
    (MUTELIST, "[[mutelist]] 1 ('mute.yml'): field `file`: there is no file "),
    (
        MUTELIST.replace("mute.yml", "a\\u0000b"),
        "[[mutelist]] 1 ('a\\x00b'): field `file`: there is no file ",
    ),
    ("x = " + "[" * 20_000, "the policy is not TOML"),
]


@pytest.mark.parametrize(("text", "why"), WRONG, ids=range(len(WRONG)))
def test_whatever_is_wrong_is_refused_by_every_command_with_its_place(
    sk: CliHarness, text: str, why: str
) -> None:
    path = sk.policy(text)
    for command in (("config", "validate"), ("config", "show"), ("plan",), ("audit",)):
        result = sk(*command)
        assert (result.code, result.out) == (2, ""), command
        assert result.error.startswith(f"{path}: {why}")
    assert len(sk.aws.state.calls) == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 20_000, "the mutelist is nested more than 32 levels deep"),
        (MUTED.replace("^batch$", "("), "the mutelist has the item '('"),
        (MUTED.replace("'*'", "12"), "the mutelist is not as Prowler writes it"),
    ],
)
def test_a_wrong_mutelist_is_named(sk: CliHarness, text: str, why: str) -> None:
    sk.policy(MUTELIST)
    path = sk.home / "mute.yml"
    path.write_text(text)
    path.chmod(0o600)
    assert sk("config", "validate").error.startswith(f"{path}: {why}")
    path.write_bytes(text.encode("utf-16"))
    assert sk("audit").error == f"the mutelist {path} is encoded as UTF-16"
    path.chmod(0o622)
    assert sk("audit").error == f"others may write the mutelist {path}; nothing was done"


def test_a_byte_order_mark_is_passed_over(sk: CliHarness) -> None:
    sk.policy("\ufeff" + EXEMPT)
    assert "EXEMPT  web" in sk("audit").out
    sk.policy("\ufeff" + MUTELIST)
    (sk.home / "mute.yml").write_text("\ufeff" + MUTED)
    (sk.home / "mute.yml").chmod(0o600)
    assert "EXEMPT  batch" in sk("audit").out


@pytest.mark.slow
def test_a_key_that_nobody_but_a_person_brings_back(sk: CliHarness) -> None:
    key = sk.key("busy", 1)
    force = ("--user", "busy", "--force", key, "--because", "stolen")
    result = sk("plan", "--never-reactivate")
    assert (result.code, result.error) == (2, "--never-reactivate is for forced keys, and none is named")
    sk.make_plan(*force, "--never-reactivate", expect=0)
    assert sk("apply", sk.plan, "--yes").code == 0
    assert "never reactivated automatically: --never-reactivate" in sk("show", sk.run).out
    script = sk.home / "reverse" / f"{sk.run}.sh"
    assert "# never reactivated without a person (--never-reactivate): aws iam" in script.read_text()
    result = sk("undo", sk.run)
    assert result.code == 1
    assert f"{key}: NOT reactivated (it is left Inactive; only a person may reactivate it" in result.err
    assert sk.inactive == {"busy/1"}
    assert sk("undo", sk.run, "--key", key).code == 0
    assert sk.inactive == set()
