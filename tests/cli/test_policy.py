"""The policy: refused as a whole where it is wrong or open to others, never half obeyed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.cli_harness import CliHarness

TODAY = datetime.now(UTC).date()


def _exempt(user: str, expires: object, **more: str) -> str:
    further = "".join(f'{name} = "{value}"\n' for name, value in more.items())
    return f'[[exempt]]\nuser = "{user}"\nowner = "team"\nreason = "moving"\nexpires = {expires}\n{further}'


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ('quite = "50d"\n', "quite"),
        ('quiet = "soon"\n', "quiet"),
        ('quiet = "20d"\n', "too short to see a monthly job"),
        ("quiet = 50\n", "quiet"),
        ("quiet", "not TOML"),
        ("[[exempt]]\nuser = 'web'\n", "owner"),
        (_exempt("web", TODAY, rule="no-such-rule"), "no-such-rule"),
        (_exempt("web", '"soon"'), "expires"),
        (_exempt("", TODAY), "user"),
        ("x = " + "[" * 100_000, "not TOML"),
    ],
    ids=[
        *("unknown-field", "no-duration", "too-short", "number", "no-toml", "no-owner", "unknown-rule"),
        *("no-date", "no-user", "deep"),
    ],
)
def test_a_policy_that_is_wrong(sk: CliHarness, text: str, received: str) -> None:
    sk.make_plan()
    calls = len(sk.aws.state.calls)
    sk.policy(text)
    for command in (("audit",), ("plan",), ("apply", str(sk.plan), "--yes")):
        result = sk(*command)
        assert (result.code, result.out) == (2, ""), command
        assert received in result.error
    assert len(sk.aws.state.calls) == calls


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_policy_that_others_may_write(sk: CliHarness, mode: int) -> None:
    path = sk.policy("", mode)
    result = sk("audit")
    assert (result.code, result.out) == (1, "")
    assert result.error == f"others may write the policy file {path}; nothing was done"
    assert f"chmod go-w {path}" in result.err


def test_the_current_directory_has_no_say(sk: CliHarness) -> None:
    (sk.folder / "sparekey.toml").write_text(_exempt("*", TODAY + timedelta(days=30)))
    assert "exempt" not in sk("audit").out


def test_a_policy_by_name(sk: CliHarness) -> None:
    path = sk.folder / "mine.toml"
    result = sk("audit", "--config", path)
    assert (result.code, result.error) == (2, f"there is no policy file {path}")
    path.write_text(_exempt("web", TODAY + timedelta(days=30)))
    path.chmod(0o600)
    assert "(1 exempt)" in sk("audit", "--config", path).out
    path.write_bytes(b"\xff")
    assert sk("audit", "--config", path).code == 2
    assert sk("audit", "--config", Path("/")).code == 2


def test_an_exemption_holds_until_the_end_of_its_day_and_then_says_that_it_is_over(sk: CliHarness) -> None:
    sk.policy(_exempt("web", TODAY) + _exempt("b*", TODAY - timedelta(days=1)))
    result = sk("audit")
    assert result.code == 3
    assert "EXEMPT  web" in result.out
    assert f"until {TODAY}" in result.out
    assert "FAIL    batch" in result.out
    assert f"its exemption ended on {TODAY - timedelta(days=1)}" in result.out
    result = sk("plan")
    assert f"exempt  111122223333 web until {TODAY} (team: moving)" in result.out
    assert "batch: " in result.out
