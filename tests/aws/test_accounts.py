"""Which accounts are read, and how they are entered."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sparekey.audit import audit
from sparekey.aws.accounts import (
    AccountAccess,
    SelectedAccounts,
    Target,
    organization_accounts,
    select_accounts,
)
from sparekey.aws.accounts_file import read_file
from sparekey.aws.client import Principal
from sparekey.aws.errors import (
    ExpiredCredentialsError,
    NotEnteredError,
    RejectedCredentialsError,
    SessionEndedError,
    UnreachableError,
)
from sparekey.aws.http_pool import ConnectionLostError
from sparekey.aws.role_sessions import by_role
from sparekey.errors import BadInputError
from sparekey.model import SkippedAccount, Unreadable
from support.clocks import VirtualClock
from support.scripted_aws import (
    ACCOUNT,
    START,
    ScriptedAws,
    connect,
    failure,
    identity,
    ok,
    page,
    session,
    user_xml,
)

ROLE = AccountAccess(role="team/SparekeyAudit", external_id="acme", session_duration=3600)
OTHER = "222222222222"


def received(account: str, name: str = "", **more: str) -> dict[str, str]:
    return {"Id": account, "Name": name or f"n{account[0]}", "State": "ACTIVE", **more}


class Organizations:
    """Pages by action and parent; the token is the next page's number."""

    def __init__(self, pages: Mapping[tuple[str, str], list[list[Mapping[str, Any]]]]) -> None:
        self.pages = pages
        self.asked: list[str] = []

    def __call__(self, action: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(action)
        about = params.get("ParentId") or params.get("ResourceId") or ""
        pages = self.pages.get((action, about), [[]])
        number = int(params.get("NextToken", 0))
        items = {"ListTagsForResource": "Tags", "ListOrganizationalUnitsForParent": "OrganizationalUnits"}
        more = {"NextToken": str(number + 1)} if number + 1 < len(pages) else {}
        return {items.get(action, "Accounts"): pages[number], **more}


def ids(selection: SelectedAccounts) -> list[str]:
    return [target.id for target in selection.targets]


def test_all_pages_are_read_and_accounts_that_are_not_active_are_named() -> None:
    call = Organizations(
        {
            ("ListAccounts", ""): [
                [received("333333333333"), received(ACCOUNT)],
                [],
                [
                    {"Id": "444444444444", "Name": "old", "Status": "SUSPENDED"},
                    received("555555555555", "new", State="PENDING_ACTIVATION", Status="ACTIVE"),
                ],
            ]
        }
    )
    found = organization_accounts(call, ACCOUNT, "aws-cn", entry=ROLE)
    assert found.targets == (
        Target(ACCOUNT, "n1"),  # the caller's own account needs no role
        Target(
            "333333333333",
            "n3",
            (),
            ("arn:aws-cn:iam::333333333333:role/team/SparekeyAudit",),
            "acme",
            3600,
        ),
    )
    assert found.skipped == (
        SkippedAccount("444444444444", "old", "SUSPENDED"),
        SkippedAccount("555555555555", "new", "PENDING_ACTIVATION"),
    )


def test_a_unit_holds_the_units_below_it() -> None:
    call = Organizations(
        {
            ("ListAccountsForParent", "ou-top"): [[received(OTHER)]],
            ("ListOrganizationalUnitsForParent", "ou-top"): [[{"Id": "ou-a"}], [{"Id": "ou-b"}]],
            ("ListAccountsForParent", "ou-b"): [[], [received("333333333333")]],
        }
    )
    assert ids(organization_accounts(call, ACCOUNT, "aws", units=["ou-top", "ou-a"], entry=ROLE)) == [
        OTHER,
        "333333333333",
    ]


def test_accounts_are_chosen_by_id_name_or_tag() -> None:
    call = Organizations(
        {
            ("ListAccounts", ""): [
                [received(OTHER, "prod-a"), received("333333333333", "prod-b"), received(ACCOUNT)]
            ],
            ("ListTagsForResource", OTHER): [
                [{"Key": "team", "Value": "web"}],
                [{"Key": "env", "Value": "x"}],
            ],
        }
    )

    def chosen(*include: str, exclude: tuple[str, ...] = ()) -> list[str]:
        return ids(organization_accounts(call, ACCOUNT, "aws", include=include, exclude=exclude, entry=ROLE))

    assert chosen("prod-*") == [OTHER, "333333333333"]
    assert chosen("prod-*", exclude=(OTHER,)) == ["333333333333"]
    assert "ListTagsForResource" not in call.asked  # a call per account, made only where a tag is asked
    assert chosen("tag:env=x", ACCOUNT) == [ACCOUNT, OTHER]
    assert chosen(exclude=("tag:team",)) == [ACCOUNT, "333333333333"]
    with pytest.raises(BadInputError, match="no account fits 'prdo'"):
        chosen("prdo")


def test_there_is_no_default_role() -> None:
    call = Organizations({("ListAccounts", ""): [[received(OTHER), received(ACCOUNT)]]})
    with pytest.raises(BadInputError, match=f"which account {OTHER} can be entered") as caught:
        organization_accounts(call, ACCOUNT, "aws", entry=AccountAccess())
    assert "--role" in caught.value.hint
    assert ids(organization_accounts(call, ACCOUNT, "aws", exclude=[OTHER], entry=AccountAccess())) == [
        ACCOUNT
    ]


@pytest.mark.parametrize(
    "entry",
    [
        AccountAccess(role="arn:aws:iam::1:role/x"),
        AccountAccess(external_id="a b"),
        AccountAccess(session_duration=60),
    ],
)
def test_what_aws_would_refuse_everywhere_is_refused_first(entry: AccountAccess) -> None:
    with pytest.raises(BadInputError):
        organization_accounts(Organizations({}), ACCOUNT, "aws", entry=entry)


# --- a file ---


def test_our_own_file(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text(
        f'[[account]]\nid = "{OTHER}"\nname = "prod"\nrole = "Audit"\nexternal_id = "acme"\n'
        f'tags = {{ env = "prod" }}\n[[account]]\nid = "{ACCOUNT}"\n'
        '[[account]]\nid = "333333333333"\nprofile = "third"\n'
    )
    assert read_file(path, ACCOUNT, "aws") == (
        Target(ACCOUNT),
        Target(OTHER, "prod", (("env", "prod"),), (f"arn:aws:iam::{OTHER}:role/Audit",), "acme"),
        Target("333333333333", profile="third"),
    )


def test_the_file_of_c7n_org_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "accounts.yml"
    path.write_text(
        "vars: {charge_code: xyz}\naccounts:\n"
        f"- account_id: '{OTHER}'\n  name: prod\n  regions: [us-east-1]\n  email: x@example.com\n"
        f"  role:\n  - arn:aws:iam::999999999999:role/Hub\n  - arn:aws:iam::{OTHER}:role/Custodian\n"
        "  external_id: acme\n  tags: [env:prod, plain]\n  vars: {a: 1}\n"
        "- account_id: '333333333333'\n  name: third\n  profile: third\n"
        f"- account_id: '444444444444'\n  name: fourth\n  role: arn:aws:iam::444444444444:role/Custodian\n"
    )
    first, second, third = read_file(path, ACCOUNT, "aws")
    assert first == Target(
        OTHER,
        "prod",
        (("env", "prod"), ("plain", "")),
        ("arn:aws:iam::999999999999:role/Hub", f"arn:aws:iam::{OTHER}:role/Custodian"),
        "acme",
    )
    assert second == Target("333333333333", "third", profile="third")
    assert third.roles == ("arn:aws:iam::444444444444:role/Custodian",)
    assert select_accounts((first, second, third), ["tag:env=prod"], []) == (first,)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    toml, yml = tmp_path / "a.toml", tmp_path / "a.yml"
    toml.write_text(f'\ufeff[[account]]\nid = "{OTHER}"\nprofile = "p"\n', encoding="utf-8")
    yml.write_text(f"\ufeffaccounts:\n- account_id: '{OTHER}'\n  profile: p\n", encoding="utf-8")
    assert read_file(toml, ACCOUNT, "aws") == read_file(yml, ACCOUNT, "aws") == (Target(OTHER, profile="p"),)
    yml.write_bytes("accounts: []".encode("utf-16"))
    with pytest.raises(BadInputError, match="is encoded as UTF-16"):
        read_file(yml, ACCOUNT, "aws")


@pytest.mark.parametrize(
    ("name", "text", "received"),
    [
        ("a.toml", "[[account]\n", "is not TOML"),
        ("a.toml", '[[account]]\nid = "1"\n', "no account id"),
        ("a.toml", f'[[account]]\nid = "{OTHER}"\nrolle = "x"\n', "rolle"),
        ("a.toml", f'[[account]]\nid = "{OTHER}"\n', "neither a role nor a profile"),
        ("a.toml", f'[[account]]\nid = "{ACCOUNT}"\n' * 2, "twice"),
        ("a.toml", f'[[account]]\nid = "{OTHER}"\nrole = "a b"\n', "no role name"),
        ("a.yml", "accounts: [", r"is not YAML \(line \d\)"),
        ("a.yml", "accounts:\n- account_id: 222222222222\n  role: x\n", "account_id"),
        (
            "a.yml",
            "accounts:\n- account_id: '222222222222'\n  role: arn:aws:iam::1:role/x\n",
            "not in the account",
        ),
        ("a.yml", "projects: []\n", "accounts"),
        ("a.yml", "[" * 20_000, "is nested more than 32 levels deep"),
        (
            "a.yml",
            f"a: &a [{'x,' * 999}x]\nb: &b [{'*a,' * 999}*a]\naccounts: *b\n",
            "more than 200,000 values",
        ),
        ("a.yml", "accounts:\n- account_id: 2026-13-45\n", "has a value that YAML cannot read"),
        ("a.yml", "accounts: 0001-01-01T00:00:00+23:59\n", "accounts"),
        ("a.toml", "account = " + "[" * 20_000, "is not TOML"),
        ("a.toml", "account" + ".a" * 50 + " = 1", "has a key of more than 32 parts"),
        ("a.toml", "account = 9999-99-99", "is not TOML"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, name: str, text: str, received: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(BadInputError, match=received) as caught:
        read_file(path, ACCOUNT, "aws")
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        read_file(tmp_path / "none.toml", ACCOUNT, "aws")


# --- entering ---


def assumed(expires: str = "2026-03-01T13:00:00Z", key: str = "ASIAROLE") -> str:
    return (
        f"<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        f"<SessionToken>t</SessionToken><Expiration>{expires}</Expiration></Credentials>"
    )


EXPIRED = (
    "Signature expired: 20261125T180000Z is now earlier than 20261125T202500Z (20261125T204000Z - 15 min.)"
)
TARGET = Target(OTHER, roles=(f"arn:aws:iam::{OTHER}:role/Audit",), external_id="acme", session_duration=900)


def test_a_role_is_taken_once_and_again_before_its_session_ends() -> None:
    clock = VirtualClock(START)
    aws = ScriptedAws(
        AssumeRole=[ok("AssumeRole", assumed()), ok("AssumeRole", assumed("2026-03-01T14:00:00Z"))],
        ListUsers=lambda _: ok("ListUsers", page("Users", user_xml("ann"))),
    )
    account = connect(aws, clock).enter(TARGET)
    assert aws.count("AssumeRole") == 0  # only when it is needed
    for wait in (0, 60, 54 * 60):
        clock.sleep(wait)
        assert len(list(account.list_users())) == 1
    assert aws.count("AssumeRole") == 2
    asked = next(asked for asked in aws.call_names if asked["Action"] == "AssumeRole")
    assert (asked["RoleArn"], asked["ExternalId"], asked["DurationSeconds"]) == (
        TARGET.roles[0],
        "acme",
        "900",
    )
    signed = aws.requests[-1].headers
    assert "Credential=ASIAROLE/" in signed["Authorization"]
    assert signed["X-Amz-Security-Token"] == "t"


def test_roles_are_assumed_one_from_the_other() -> None:
    def answer(asked: dict[str, str]) -> Any:
        return ok("AssumeRole", assumed(key="ASIAHUB" if "Hub" in asked["RoleArn"] else "ASIALAST"))

    aws = ScriptedAws(AssumeRole=answer, ListUsers=lambda _: ok("ListUsers", page("Users", "")))
    roles = ("arn:aws:iam::999999999999:role/Hub", f"arn:aws:iam::{OTHER}:role/Audit")
    assert list(connect(aws).enter(Target(OTHER, roles=roles)).list_users()) == []
    by = [request.headers["Authorization"].split("=")[1].split("/")[0] for request in aws.requests]
    assert by == ["AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE", "ASIAHUB", "ASIALAST"]


def test_a_session_is_kept_however_often_the_account_is_entered() -> None:
    aws = ScriptedAws(
        AssumeRole=lambda _: ok("AssumeRole", assumed()),
        ListUsers=lambda _: ok("ListUsers", page("Users", "")),
    )
    gateway = connect(aws)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: list(gateway.enter(TARGET).list_users()), range(16)))
    assert aws.count("AssumeRole") == 1
    gateway.enter(TARGET).close()  # who is done with the account keeps no session
    assert list(gateway.enter(TARGET).list_users()) == []
    assert aws.count("AssumeRole") == 2


def test_accounts_behind_one_role_share_its_session() -> None:
    aws = ScriptedAws(
        AssumeRole=lambda _: ok("AssumeRole", assumed()),
        ListUsers=lambda _: ok("ListUsers", page("Users", "")),
    )
    gateway = connect(aws)
    for account in ("222222222222", "333333333333"):
        roles = ("arn:aws:iam::999999999999:role/Hub", f"arn:aws:iam::{account}:role/Audit")
        assert list(gateway.enter(Target(account, roles=roles)).list_users()) == []
    assert aws.count("AssumeRole") == 3


def test_a_role_on_the_way_that_is_refused_is_named_in_each_account() -> None:
    aws = ScriptedAws(AssumeRole=lambda _: failure("AccessDenied", 403))
    gateway = connect(aws)
    for account in ("222222222222", "333333333333"):
        roles = ("arn:aws:iam::999999999999:role/Hub", f"arn:aws:iam::{account}:role/Audit")
        with pytest.raises(NotEnteredError, match=r"the role .*/Hub cannot be assumed") as caught:
            list(gateway.enter(Target(account, roles=roles)).list_users())
        assert caught.value.message.startswith(f"account {account} cannot be entered by {roles[1]}: ")
    assert aws.count("AssumeRole") == 1


def test_a_call_of_an_ended_session_does_not_drop_the_next_one() -> None:
    taken = iter([assumed(key="ASIAOLD"), assumed(key="ASIANEW")])
    aws = ScriptedAws(AssumeRole=lambda _: ok("AssumeRole", next(taken)))
    credentials = by_role(
        connect(aws).client, Principal("", session().get_credentials()), TARGET, TARGET.roles[0]
    )
    assert credentials.get_frozen_credentials().access_key == "ASIAOLD"
    for _ in range(2):
        credentials.discard("ASIAOLD")
        assert credentials.get_frozen_credentials().access_key == "ASIANEW"


@pytest.mark.parametrize(
    ("code", "message", "received"),
    [
        ("SignatureDoesNotMatch", EXPIRED, "clock"),
        (
            "AccessDenied",
            "with an explicit deny in a service control policy: arn:aws:organizations::1:policy/p",
            "service control",
        ),
        (
            "AccessDenied",
            "User: x is not authorized to perform: sts:AssumeRole on resource: y",
            "trust the caller",
        ),
    ],
)
def test_the_hint_of_an_account_that_cannot_be_entered_speaks_of_the_cause(
    code: str, message: str, received: str
) -> None:
    aws = ScriptedAws(AssumeRole=lambda _: failure(code, 403, message))
    with pytest.raises(NotEnteredError) as caught:
        list(connect(aws).enter(TARGET).list_users())
    assert received in caught.value.hint


def test_an_account_that_cannot_be_entered_is_unreadable_and_asked_once() -> None:
    aws = ScriptedAws(AssumeRole=lambda _: failure("AccessDenied", 403))
    gateway = connect(aws)
    snapshot = audit([gateway.enter(TARGET)], VirtualClock(START), caller=gateway.caller(), workers=2)
    users = snapshot.accounts[0].users
    assert isinstance(users, Unreadable)
    assert (users.what, users.code) == ("sts:AssumeRole", "AccessDenied")
    assert f"account {OTHER} cannot be entered by {TARGET.roles[0]}" in users.why
    assert aws.count("AssumeRole") == 1


def test_an_account_that_could_not_be_entered_is_tried_again_after_a_while() -> None:
    clock = VirtualClock(START)
    aws = ScriptedAws(
        AssumeRole=[failure("AccessDenied", 403), ok("AssumeRole", assumed())],
        ListUsers=lambda _: ok("ListUsers", page("Users", "")),
    )
    account = connect(aws, clock).enter(TARGET)
    for _ in range(2):
        with pytest.raises(NotEnteredError):
            list(account.list_users())
    clock.sleep(61)
    assert list(account.list_users()) == []
    assert aws.count("AssumeRole") == 2


def test_an_account_that_could_not_be_reached_is_tried_again_at_once() -> None:
    aws = ScriptedAws(
        AssumeRole=[*[ConnectionLostError("cut off", sent=True)] * 3, ok("AssumeRole", assumed())],
        ListUsers=lambda _: ok("ListUsers", page("Users", "")),
    )
    account = connect(aws).enter(TARGET)
    with pytest.raises(UnreachableError, match=f"account {OTHER} cannot be entered by"):
        list(account.list_users())
    assert list(account.list_users()) == []


def test_a_session_that_has_ended_by_awss_clock_alone_is_taken_anew() -> None:
    aws = ScriptedAws(
        AssumeRole=lambda _: ok("AssumeRole", assumed()),
        ListUsers=[failure("ExpiredToken", 403), ok("ListUsers", page("Users", ""))],
    )
    assert list(connect(aws).enter(TARGET).list_users()) == []
    assert aws.count("AssumeRole") == 2


def test_a_write_in_a_session_that_has_ended_is_left_to_the_caller_to_send_again() -> None:
    aws = ScriptedAws(
        AssumeRole=lambda _: ok("AssumeRole", assumed()),
        UpdateAccessKey=[failure("ExpiredToken", 403), ok("UpdateAccessKey", "")],
    )
    account = connect(aws).enter(TARGET)
    with pytest.raises(SessionEndedError):
        account.set_status("api", "AKIA", "Active")
    assert aws.count("UpdateAccessKey") == 1
    account.set_status("api", "AKIA", "Active")
    assert aws.count("AssumeRole") == 2


@pytest.mark.parametrize("times", [1, 3])
def test_a_session_of_a_role_that_was_made_anew_is_taken_anew(times: int) -> None:
    aws = ScriptedAws(
        AssumeRole=lambda _: ok("AssumeRole", assumed()),
        ListUsers=[*[failure("InvalidClientTokenId", 403)] * times, ok("ListUsers", page("Users", ""))],
    )
    account = connect(aws).enter(TARGET)
    if times > 1:  # not for ever: the role is there, and its sessions are rejected all the same
        with pytest.raises(RejectedCredentialsError):
            list(account.list_users())
    assert list(account.list_users()) == []
    assert aws.count("AssumeRole") == times + 1


def test_base_credentials_that_have_expired_are_not_asked_with_again() -> None:
    aws = ScriptedAws(ListUsers=lambda _: failure("ExpiredToken", 403))
    with pytest.raises(ExpiredCredentialsError):
        list(connect(aws).own_account().list_users())
    assert aws.count("ListUsers") == 1


def test_a_profile_of_another_account_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text(
        "[third]\naws_access_key_id = AKIATHIRD\naws_secret_access_key = s\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    aws = ScriptedAws(
        GetCallerIdentity=lambda _: identity(), ListUsers=lambda _: ok("ListUsers", page("Users", ""))
    )
    gateway = connect(aws)
    assert list(gateway.enter(Target(ACCOUNT, profile="third")).list_users()) == []
    with pytest.raises(NotEnteredError, match=f"of account {ACCOUNT}, not of {OTHER}"):
        list(gateway.enter(Target(OTHER, profile="third")).list_users())
    with pytest.raises(NotEnteredError, match="nobody"):
        list(gateway.enter(Target(OTHER, profile="nobody")).list_users())
    assert gateway.enter(Target(ACCOUNT, profile="third")).arn.endswith(":user/ops/admin")
    rejected = connect(ScriptedAws(GetCallerIdentity=[identity(), failure("InvalidClientTokenId", 403)]))
    with pytest.raises(NotEnteredError, match="by the profile third: AWS rejects"):
        list(rejected.enter(Target(OTHER, profile="third")).list_users())


def test_a_file_is_read_and_filtered_by_the_gateway(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text(f'[[account]]\nid = "{ACCOUNT}"\n[[account]]\nid = "{OTHER}"\nrole = "Audit"\n')
    assert ids(connect(ScriptedAws()).accounts_file(path, exclude=[OTHER])) == [ACCOUNT]
