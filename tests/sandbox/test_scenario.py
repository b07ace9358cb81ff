"""Scenarios: what is refused, and what the demo company is."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sparekey.sandbox import Sandbox, SandboxError, Scenario, demo_company, load_scenario, parse_scenario

ACCOUNT = '[[account]]\nid = "111122223333"\n'
USER = ACCOUNT + '[[account.user]]\nname = "bob"\nkey = [{ age = "9d" }]\n'
TWIN = '[[account.user]]\nname = "al"\nkey = [{ id = "AKIA1", age = "1d" }]\n'
APP = USER + '[[account.app]]\nname = "x"\nuser = "bob"\ncalls = ["s3:GetObject"]\nevery = "1d"\n'


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", "missing required field `account`"),
        ("[[account]", "is not TOML"),
        ("account = []", "needs at least one [[account]]"),
        ('[[account]]\nid = "12"', "'12' is not an account id"),
        (ACCOUNT + ACCOUNT, "each with an id of its own"),
        (ACCOUNT + 'colour = "red"', "unknown field `colour`"),
        (
            ACCOUNT + '[[account.user]]\nname = "bob"\nkey = [{ age = "9 days" }]',
            "'9 days' is not a length of time",
        ),
        (ACCOUNT + '[[account.user]]\nname = "bob"\nkey = [{ age = 9 }]', "expected a length of time"),
        (ACCOUNT + '[[fault]]\nkind = "flood"', "Invalid value 'flood'"),
        (ACCOUNT + '[caller]\naccount = "999999999999"\nuser = "bob"', "which it does not describe"),
        (ACCOUNT + '[caller]\naccount = "111122223333"\nuser = "bob"', "no user bob"),
        (USER + '[caller]\naccount = "111122223333"\nuser = "bob"\nkey = 2', "no key number 2"),
        (USER + '[[account.user]]\nname = "bob"', "the user bob of the account 111122223333 twice"),
        (ACCOUNT + '[[account.user]]\nname = "bob"\npath = "apps"', "is none"),
        (USER.replace("age", 'id = "AKIA1", age') + TWIN, "AKIA1 twice"),
        ("regions = []\n" + ACCOUNT, "at least one region"),
        (APP.replace('user = "bob"', 'user = "al"'), "no user al"),
        (APP.replace("1d", "0d"), "never calls"),
        (APP.replace("s3:", ""), "needs calls such as"),
        (APP + 'via = "AssumeRole"\nrole = "R"', "cannot have called AssumeRole"),
    ],
)
def test_a_wrong_scenario_is_refused_in_one_sentence(text: str, result: str) -> None:
    with pytest.raises(SandboxError) as caught:
        Sandbox(text)
    assert result in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


def test_a_scenario_file_is_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    with pytest.raises(SandboxError, match="cannot be read"):
        load_scenario(path)
    path.write_text(USER)
    assert Sandbox(path).key("bob").user == "bob"
    path.write_text("\ufeff" + USER, encoding="utf-8")
    assert Sandbox(path).key("bob").user == "bob"
    for odd in ("x = " + "[" * 20_000, "x = " + "9" * 5000):
        path.write_text(odd)
        with pytest.raises(SandboxError, match="is not TOML"):
            load_scenario(path)
    path.write_text(USER + "colour = 1")
    with pytest.raises(SandboxError, match=r"s\.toml has a wrong field"):
        load_scenario(path)


def test_the_same_scenario_makes_the_same_ids() -> None:
    first, second = Sandbox(USER), Sandbox(USER)
    assert first.key("bob").id == second.key("bob").id
    assert first.operator.secret == second.operator.secret
    assert Sandbox('seed = "other"\n' + USER).key("bob").id != first.key("bob").id
    assert len(first.operator.secret) == 40
    assert first.operator.id.startswith("AKIA")
    assert len(first.operator.id) == 20


def test_secrets_are_in_no_repr(company: Sandbox, client: Any) -> None:
    session = client(company, "sts").get_session_token()["Credentials"]
    received = repr(company.state.sessions) + repr(company.state.keys) + repr(company.state.calls)
    assert company.operator.secret not in received
    assert session["SecretAccessKey"] not in received
    assert session["SessionToken"] not in received


def test_the_demo_company_is_what_it_says(company: Sandbox) -> None:
    users = company.state.accounts["111122223333"].users
    active = {name: [key.status for key in user.keys].count("Active") for name, user in users.items()}
    assert active == {
        "alice": 0,
        "billing-export": 2,
        "carol": 0,
        "ci-deploy": 2,
        "data-import": 3,
        "data-science": 1,
        "docs-site": 1,
        "etl-nightly": 2,
        "legacy-reports": 2,
        "mobile-api": 2,
        "ops": 1,
        "partner-sftp": 2,
        "web-frontend": 2,
    }
    assert company.operator.user == "ops"
    scenario = demo_company()
    assert not scenario.fault
    assert scenario.lookup_rate is None
    assert parse_scenario(USER).account[0].user[0].name == "bob"


def tables(kind: Any = Scenario) -> dict[str, Any]:
    """Every table of a scenario by its name."""
    found = {kind.__name__: kind}
    for field in msgspec.structs.fields(kind):
        for inner in (field.type, *getattr(field.type, "__args__", ())):
            for struct in (inner, *getattr(inner, "__args__", ())):
                if isinstance(struct, type) and issubclass(struct, msgspec.Struct):
                    found |= tables(struct)
    return found


def test_the_docs_name_every_field_and_every_fault() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "sandbox.md").read_text()
    found = tables()
    assert {"KeyTable", "AppTable", "Stale", "OrganizationTable"} <= found.keys()
    for kind in found.values():
        for field in msgspec.structs.fields(kind):
            assert re.search(rf"\b{field.encode_name}\b", text), field.encode_name
        if isinstance(kind.__struct_config__.tag, str):
            assert f"`{kind.__struct_config__.tag}`" in text


def test_the_example_in_the_docs_is_a_scenario() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "sandbox.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    sandbox = Sandbox(example)
    assert [len(sandbox.key("billing", number=number).uses) > 0 for number in (1, 2)] == [True, True]
    assert sandbox.operator.user == "ops"
