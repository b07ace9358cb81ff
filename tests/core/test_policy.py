"""The policy's file: what it may say, and that everything else is refused in one sentence."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.policy import Policy, PolicyError, Span, decode_policy, parse_policy

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXEMPT = '[[exempt]]\nuser = "svc"\nowner = "b"\nreason = "c"\nexpires = 2026-01-01\n'
FULL = """
max_key_age = "60d"
settle = "36h"
quiet = "50d"
cutover_quiet = "240m"

[[exempt]]
user = "svc-*"
account = "111111111111"
owner = "platform"
reason = "vendor rotates"
expires = 2026-03-01

[[rotators]]
user = "vault-*"
tool = "Vault"
"""


def test_an_empty_policy_is_the_default() -> None:
    policy = parse_policy("")
    assert policy == Policy()
    assert policy.max_key_age == timedelta(days=90)
    assert policy.settle == timedelta(days=7)
    assert policy.quiet == timedelta(days=45)
    assert policy.cutover_quiet == timedelta(days=7)
    assert policy.digest == Policy().digest


def test_every_field() -> None:
    policy = parse_policy(FULL)
    assert policy.max_key_age == timedelta(days=60)
    assert policy.settle == timedelta(hours=36)
    assert policy.cutover_quiet == timedelta(hours=4)
    assert [str(span) for span in (policy.max_key_age, policy.settle, policy.cutover_quiet)] == [
        "60d",
        "36h",
        "4h",
    ]
    assert policy.exempt[0].owner == "platform"
    assert policy.rotators[0].tool == "Vault"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("max_key_age = 90", "max_key_age"),
        ('max_key_age = "90"', "field `max_key_age`: '90' is not a duration such as"),
        ('max_key_age = "90 days"', "not a duration"),
        ('max_key_age = "-1d"', "not a duration"),
        ('max_key_age = "0d"', "field `max_key_age`: it must be longer than zero"),
        ('settle = "0m"', "field `settle`: it must be longer than zero"),
        ('cutover_quiet = "0h"', "field `cutover_quiet`: it must be longer than zero"),
        ('quiet = "31d"', "too short to see a monthly job"),
        ('max_keys_age = "90d"', "max_keys_age"),
        ("max_key_age = ", "not TOML"),
        ('[[exempt]]\nuser = "a"\nowner = "b"\nexpires = 2026-01-01', "reason"),
        ('[[exempt]]\nuser = "a"\nreason = "b"\nexpires = 2026-01-01', "owner"),
        ('[[exempt]]\nuser = "a"\nowner = "b"\nreason = "c"', "expires"),
        ('[[exempt]]\nuser = "a"\nowner = ""\nreason = "c"\nexpires = 2026-01-01', "owner"),
        ('[[exempt]]\nuser = ""\nowner = "b"\nreason = "c"\nexpires = 2026-01-01', "user"),
        ('[[exempt]]\nuser = "a"\nowner = "b"\nreason = "c"\nexpires = "soon"', "expires"),
        ('[[exempt]]\nuser = "a"\nowner = "b"\nreason = "c"\nexpires = 2026-01-01\nuntil = 1', "until"),
        ('[[rotators]]\nuser = "a"', "tool"),
        ("exempt = 1", "field `exempt`: Expected `array`"),
        ("exempt = [1]", "entry 1 of `exempt`: Expected `object`"),
        ("exempt = [[1]]", "entry 1 of `exempt`"),
        ("windows = [1]", "entry 1 of `windows`: Expected `str`"),
        ('quiet = "3651d"', "field `quiet`: '3651d' is longer than ten years"),
        ("watch = 0001-01-01T00:00:00+23:59", "watch"),
        ("quiet = 0001-13-01", "not TOML"),
        ("quiet = " + "9" * 5000, "not TOML"),
        ("x" + ".a" * 100 + " = 1", "a key of more than 32 parts"),
        ("x = {a" + " . 'a'" * 100 + " = 1}", "a key of more than 32 parts"),
        ("[x" + ".a" * 100 + "]", "a key of more than 32 parts"),
        ('"a\\nb" = 1', "field `a b`: there is no such field"),
        (f'{EXEMPT}match = "regex"\n'.replace("svc", "("), r"\[\[exempt\]\] 1 \('\('\): field `user`: '\('"),
        (f'{EXEMPT}match = "regexp"\n', r"\[\[exempt\]\] 1 \('svc'\): field `match`"),
        (f'{EXEMPT}[[exempt.unless]]\nusr = "a"', r"\[\[exempt.unless\]\] 1: field `usr`: there is no such"),
        (
            f'{EXEMPT}[[exempt.unless]]\nuser = "a"\nmatch = "regex"\naccount = "(?=1)"',
            r"\[\[exempt.unless\]\] 1 \('a'\): field `account`: '\(\?=1\)' uses look-ahead",
        ),
        ('[[never_reactivate]]\nuser = "a{2000}"\nmatch = "regex"', "field `user`"),
        ('[[rotators]]\nuser = "v"\ntool = ""', r"\[\[rotators\]\] 1 \('v'\): field `tool`"),
        ('[[mutelist]]\nfile = ""\nowner = "a"\nuntil = 2026-01-01', "field `file`"),
    ],
)
def test_a_wrong_policy_is_refused(text: str, result: str) -> None:
    with pytest.raises(PolicyError, match=result) as refusal:
        parse_policy(text)
    assert refusal.value.hint
    assert refusal.value.exit_code == 2


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_policy('\ufeffquiet = "50d"') == parse_policy('quiet = "50d"')


def test_whose_keys_come_back_only_by_a_person() -> None:
    policy = parse_policy('[[never_reactivate]]\nuser = "^leaked"\nmatch = "regex"\nreason = "INC-7"')
    assert policy.never_reactivates("111111111111", "leaked-ci") == policy.never_reactivate[0]
    assert policy.never_reactivates("111111111111", "ci") is None


def test_a_policy_on_file_that_this_version_refuses_is_told() -> None:
    with pytest.raises(PolicyError, match="the policy on file: field `quite`: there is no such field"):
        decode_policy({"quite": "50d"})


def test_32_days_are_enough_to_see_a_monthly_job() -> None:
    assert parse_policy('quiet = "32d"').quiet == timedelta(days=32)


@pytest.mark.parametrize(
    ("when", "covers"),
    [
        (datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC), True),
        (datetime(2026, 3, 2, tzinfo=UTC), False),
    ],
)
def test_an_exemption_holds_through_its_last_day(when: datetime, covers: bool) -> None:
    policy = parse_policy(FULL)
    now = policy.exemption("two-active-keys", "111111111111", "svc-a", when)
    past = policy.expired_exemption("two-active-keys", "111111111111", "svc-a", when)
    assert (now is not None, past is not None) == (covers, not covers)


@pytest.mark.parametrize(
    ("account", "user", "covers"),
    [
        ("111111111111", "svc-a", True),
        ("111111111111", "SVC-a", False),
        ("111111111111", "xsvc-a", False),
        ("222222222222", "svc-a", False),
    ],
)
def test_an_exemption_covers_whom_it_names(account: str, user: str, covers: bool) -> None:
    entry = parse_policy(FULL).exemption("two-active-keys", account, user, NOON)
    assert (entry is not None) == covers


def test_the_longest_lived_exemption_counts() -> None:
    one = '[[exempt]]\nuser = "a"\nowner = "{}"\nreason = "r"\nexpires = {}\n'
    policy = parse_policy(one.format("x", "2026-02-01") + one.format("y", "2026-04-01"))
    entry = policy.exemption("two-active-keys", "1", "a", NOON)
    assert entry is not None
    assert entry.owner == "y"
    assert policy.expired_exemption("two-active-keys", "1", "a", NOON) is None


def test_the_digest_follows_the_content_not_the_writing() -> None:
    assert parse_policy('quiet = "45d" # as ever').digest == parse_policy('quiet = "1080h"').digest
    assert parse_policy('quiet = "46d"').digest != Policy().digest
    assert parse_policy(FULL).digest != parse_policy(FULL.replace("2026-03-01", "2026-03-02")).digest


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 999_999))
def test_a_duration_is_written_as_it_is_read(minutes: int) -> None:
    span = Span(minutes=minutes)
    assert Span.parse(str(span)) == span


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_no_text_makes_a_traceback(text: str) -> None:
    with suppress(PolicyError):
        assert parse_policy(text).quiet
