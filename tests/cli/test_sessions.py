"""A run in a member account takes one session there, however many users it has."""

from pathlib import Path

import pytest

from support.cli_harness import ACCOUNT, ELSEWHERE, AwsFrontend, cli_harness

ROLE = ("--role", "R", "--external-id", "xx-1")
USERS = "".join(
    f'[[account.user]]\nname = "u{number}"\nkey = [{{ age = "300d" }}, {{ age = "40d", used = {{ ago = "1h" }} }}]\n'
    for number in range(4)
)
COMPANY = f"""
caller = {{ account = "{ACCOUNT}", user = "ops" }}
[organization]
management = "{ACCOUNT}"
[[account]]
id = "{ACCOUNT}"
[[account.user]]
name = "ops"
key = [{{ age = "20d", used = {{ ago = "1h" }} }}]
[[account]]
id = "{ELSEWHERE}"
[[account.role]]
name = "R"
external_id = "xx-1"
trust = ["{ACCOUNT}"]
allow = ["*"]
{USERS}
"""


@pytest.mark.slow
def test_a_session_is_taken_once(
    tmp_path: Path, capsys: "pytest.CaptureFixture[str]", door: AwsFrontend
) -> None:
    with cli_harness(tmp_path, capsys, door, COMPANY) as sk:
        plan = sk.make_plan("--org", *ROLE, expect=0)
        before = len(sk.aws.state.calls)
        assert sk("apply", plan, "--yes", "--no-watch", "--max-share", "1", *ROLE).code == 0
        calls = [call.action for call in sk.aws.state.calls[before:]]
        assert calls.count("iam:UpdateAccessKey") == 4
        assert calls.count("sts:AssumeRole") == 1
