"""Prowler's mutelist as exemptions: who is exempt, who is not, and what is told."""

import re
from datetime import UTC, date, datetime

import pytest

from sparekey import prowler_mutelist
from sparekey.model import AccessKey, Account, User
from sparekey.policy import Policy, PolicyError, decode_policy, parse_policy
from sparekey.rules import findings
from sparekey.runs.run_header import policy_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNTIL = date(2026, 6, 30)
ONE, TWO = "111122223333", "444455556666"
NAMES = ("ci", "ci-2", "deploy", "etl", "Vault-root", "vault-app")


def read(text: str, region: str = "us-east-1") -> prowler_mutelist.ImportedMutelist:
    return prowler_mutelist.parse(text, until=UNTIL, owner="security", region=region)


def exempt(
    text: str, account: str = ONE, rule: str = "two-active-keys", region: str = "us-east-1"
) -> set[str]:
    """Who of the users, each with two old active keys, is exempt."""
    policy = Policy(exempt=read(text, region).exempt)
    keys = tuple(
        AccessKey(f"AKIA{number:016d}", "Active", datetime(2020, 1, 1, tzinfo=UTC)) for number in (1, 2)
    )
    users = tuple(User(name, f"arn:aws:iam::{account}:user/{name}", keys) for name in NAMES)
    received = findings(Account(account, "aws", users, NOW), policy, NOW, [rule])
    return {finding.user for finding in received if finding.status == "EXEMPT"}


def check(
    name: str, account: str = ONE, regions: str = "['*']", resources: str = "['*']", more: str = ""
) -> str:
    return f"""
Mutelist:
  Accounts:
    "{account}":
      Checks:
        "{name}":
          Regions: {regions}
          Resources: {resources}
{more}"""


TWO_KEYS = "iam_user_two_active_access_key"


@pytest.mark.parametrize(
    ("resources", "who"),
    [
        ("['*']", set(NAMES)),
        ("['ci']", {"ci", "ci-2"}),  # Prowler searches: it is not anchored
        ("['^ci$']", {"ci"}),
        ("['vault', 'e']", {"vault-app", "deploy", "etl"}),
        ("['(?i)vault']", {"Vault-root", "vault-app"}),
        ("['*-2']", {"ci-2"}),
        ("['ci*']", {"ci", "ci-2"}),
        ("['cix*']", set()),  # each `*` is `.*`, so it does not repeat the x
        ("['^d*y$']", {"deploy"}),
        ("['ci.*']", {"ci-2"}),  # `.*` becomes `..*`, as Prowler makes it
        ("['^(ci|etl)$']", {"ci", "etl"}),
        ("['[0-9]+$']", {"ci-2"}),
        ("[]", set()),
    ],
)
def test_resources_are_regular_expressions(resources: str, who: set[str]) -> None:
    assert exempt(check(TWO_KEYS, resources=resources)) == who


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        (TWO_KEYS, {"two-active-keys"}),
        ("iam_rotate_access_key_90_days", {"old-key"}),
        ("iam_user_accesskey_unused", {"unused-key"}),
        ("iam_*", {"two-active-keys", "old-key", "unused-key"}),
        ("*", {"two-active-keys", "old-key", "unused-key"}),
        ("s3_bucket_public_access", set()),
    ],
)
def test_checks_are_rules(name: str, rules: set[str]) -> None:
    assert {entry.rule for entry in read(check(name)).exempt} == rules
    if "old-key" in rules:
        assert exempt(check(name), rule="old-key") == set(NAMES)


def test_no_root_key_is_exempt_and_that_is_told() -> None:
    received = read(check("iam_no_root_access_key"))
    assert received.exempt == ()
    assert received.ignored == (f"{ONE}: iam_no_root_access_key: no user is exempt from root-key",)


def test_accounts_are_whole_ids_or_all() -> None:
    assert exempt(check(TWO_KEYS), account=TWO) == set()
    assert exempt(check(TWO_KEYS, account="*"), account=TWO) == set(NAMES)
    assert exempt(check(TWO_KEYS, account=ONE[:6])) == set()


def test_an_entry_for_other_regions_exempts_nobody() -> None:
    assert exempt(check(TWO_KEYS, regions="['eu-west-1']")) == set()
    assert exempt(check(TWO_KEYS, regions="['us-east-1']")) == set(NAMES)
    assert exempt(check(TWO_KEYS, regions="['cn-north-1']"), region="cn-north-1") == set(NAMES)


def test_an_entry_with_tags_exempts_nobody_and_is_told() -> None:
    tagged = check(TWO_KEYS, more="          Tags: ['team=ops']\n")
    assert read(tagged).exempt == ()
    assert read(tagged).ignored == (f"{ONE}: {TWO_KEYS}: it mutes by tag, and tags are not read",)
    assert exempt(check(TWO_KEYS, more="          Tags: ['*']\n")) == set(NAMES)


@pytest.mark.parametrize(
    ("exceptions", "who"),
    [
        ("{Resources: ['^ci$']}", set(NAMES) - {"ci"}),
        ("{Resources: ['ci', 'etl']}", set(NAMES) - {"ci", "ci-2", "etl"}),
        (f"{{Accounts: ['{ONE}']}}", set()),
        (f"{{Accounts: ['{TWO}']}}", set(NAMES)),
        (f"{{Accounts: ['{TWO}'], Resources: ['ci']}}", set(NAMES)),
        ("{Regions: ['eu-west-1'], Resources: ['ci']}", set(NAMES)),
        ("{Regions: ['us-*'], Resources: ['ci']}", set(NAMES) - {"ci", "ci-2"}),
        ("{Tags: ['team=ops'], Resources: ['ci']}", set(NAMES) - {"ci", "ci-2"}),
        ("{}", set(NAMES)),
    ],
)
def test_exceptions_take_out_whom_every_given_kind_matches(exceptions: str, who: set[str]) -> None:
    assert exempt(check(TWO_KEYS, more=f"          Exceptions: {exceptions}\n")) == who


def test_an_exception_holds_for_the_entries_after_it_too() -> None:
    later = """        "iam_user_two":
          Regions: ['*']
          Resources: ['ci', 'etl']
"""
    first = check(
        TWO_KEYS, resources="['etl']", more=f"          Exceptions: {{Resources: ['^ci$']}}\n{later}"
    )
    assert exempt(first) == {"etl", "ci-2"}


def test_every_exemption_has_an_owner_an_end_and_a_reason() -> None:
    (entry,) = read(
        check(TWO_KEYS, resources="['etl']", more="          Description: two by design\n")
    ).exempt
    assert (entry.owner, entry.expires, entry.reason) == ("security", UNTIL, "two by design")
    (entry,) = read(check(TWO_KEYS, resources="['etl']")).exempt
    assert entry.reason == f"muted in Prowler: {TWO_KEYS}: etl"
    assert not entry.expired(datetime(2026, 6, 30, 23, tzinfo=UTC))
    assert entry.expired(datetime(2026, 7, 1, tzinfo=UTC))


def test_exemptions_survive_the_ledger() -> None:
    received = read(
        check(TWO_KEYS, resources="['etl']", more="          Exceptions: {Resources: ['ci']}\n")
    ).exempt
    policy = Policy(exempt=received)
    assert decode_policy(policy_of(policy)) == policy
    assert policy.digest != Policy().digest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not as Prowler writes it"),
        ("Mutelist: [", "not YAML (line "),
        ("[" * 20_000, "nested more than 32 levels deep"),
        (check(TWO_KEYS, resources="['(?=a)']"), "'(?=a)' uses look-ahead"),
        (check(TWO_KEYS, resources="['(a)\\1']"), "uses a backreference"),
        ("Mutelist: 0001-01-01T00:00:00+23:59", "not as Prowler writes it"),
        ("Mutelist: 2026-99-99", "has a value that YAML cannot read"),
        ("Allowlist: {}", "not as Prowler writes it"),
        (check(TWO_KEYS).replace(f'"{ONE}"', ONE), "not as Prowler writes it"),
        (check(TWO_KEYS, resources="'*'"), "not as Prowler writes it"),
        (check(TWO_KEYS, resources="['(']"), "the item '(': '(' is not a regular expression"),
        (check("iam_(", resources="['x']"), "the item 'iam_(': 'iam_(' is not a regular expression"),
        (check(TWO_KEYS, more="          Expires: 2026-01-01\n"), "not as Prowler writes it"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_what_is_no_mutelist_is_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(says)):
        read(text)


def test_lists_that_multiply_are_refused_before_they_are_made() -> None:
    names = ",".join(f"r{number}" for number in range(101))
    entry = f"&e {{Regions: ['*'], Resources: [{names}]}}"
    accounts = ", ".join(
        f"'{number:012d}': {{Checks: {{'{TWO_KEYS}': {'*e' if number else entry}}}}}" for number in range(100)
    )
    with pytest.raises(PolicyError, match="expands to more than 10,000 exemptions"):
        read(f"Mutelist: {{Accounts: {{{accounts}}}}}")
    ids = ",".join(f"'{number:012d}'" for number in range(200))
    many = f"          Exceptions: {{Accounts: [{ids}], Resources: [{names}]}}\n"
    with pytest.raises(PolicyError, match="expands to more than 10,000 exemptions"):
        read(check(TWO_KEYS, more=many))


def test_the_policy_file_may_use_regular_expressions_too() -> None:
    policy = parse_policy(
        """
        [[exempt]]
        user = "^(ci|etl)"
        match = "regex"
        owner = "security"
        reason = "two by design"
        expires = 2026-06-30
        [[exempt.unless]]
        user = "ci-*"
        """
    )
    assert policy.exemption("two-active-keys", ONE, "ci", NOW)
    assert policy.exemption("two-active-keys", ONE, "etl", NOW)
    assert not policy.exemption("two-active-keys", ONE, "ci-2", NOW)
    with pytest.raises(PolicyError, match="is not a regular expression"):
        parse_policy('[[rotators]]\nuser = "("\nmatch = "regex"\ntool = "Vault"\n')
