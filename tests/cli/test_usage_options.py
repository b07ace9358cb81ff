"""An option of a usage source that is not asked for is refused before anything is read."""

import json

import pytest

from support.cli_harness import CliHarness

KEY = "AKIAIOSFODNN7EXAMPLE"


@pytest.mark.parametrize(
    ("args", "received"),
    [
        (("plan", "--athena-output", "s3://b"), "--athena-output belongs to --usage athena=TABLE"),
        (
            ("plan", "--usage", "history", "--athena-output", "s3://b"),
            "--athena-output belongs to --usage athena=TABLE",
        ),
        (("plan", "--workgroup", "w"), "--workgroup belongs to --usage athena=TABLE"),
        (("plan", "--max-pages", "200"), "--max-pages belongs to --usage history"),
        (("plan", "--since", "2026-01-01"), "--since belongs to a usage source (--usage)"),
        (("plan", "--usage-region", "eu-west-1"), "--usage-region belongs to a usage source (--usage)"),
        (("plan", "--usage", "archive=x", "--max-pages", "9"), "--max-pages belongs to --usage history"),
        (("usage", KEY, "--athena-output", "s3://b"), "--athena-output belongs to --source athena=TABLE"),
        (("usage", KEY, "--processes", "2"), "--processes belongs to --source archive=PLACE"),
        (
            ("usage", KEY, "--source", "athena=t", "--athena-output", "o.json"),
            "--athena-output o.json is not an s3:// location",
        ),
        (("console", "--workgroup", "w"), "--workgroup belongs to --usage athena=TABLE"),
    ],
)
def test_it_is_refused(sk: CliHarness, args: tuple[str, ...], received: str) -> None:
    result = sk(*args)
    assert result.code == 2
    assert received in result.error
    assert result.out == ""
    assert not sk.aws.state.calls
    assert not (sk.folder / "plan.json").exists()


def test_output_is_the_file_of_the_plan_or_of_the_report(sk: CliHarness) -> None:
    assert sk("plan", "--output", sk.folder / "plan.json").code == 0
    assert json.loads((sk.folder / "plan.json").read_text())["schema"] == "sparekey/plan/1"
    result = sk("audit", "-o", sk.folder / "audit.csv", "--format", "csv")
    assert (result.code, result.out) == (3, "")
    assert (sk.folder / "audit.csv").read_text().startswith("account,")
    assert (sk.folder / "audit.csv").stat().st_mode & 0o777 == 0o600


def test_the_options_of_the_source_that_is_asked_for_are_taken(sk: CliHarness) -> None:
    args = ("--since", "2026-01-01", "--usage-region", "us-east-1", "--max-pages", "3")
    assert sk("usage", sk.key("web", 1), *args).code in (0, 4)
