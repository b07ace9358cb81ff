"""What is installed only where it is asked for is named where it is missing."""

import sys

import pytest

from sparekey.cli import cli
from sparekey.cli.failures import run_guarded


@pytest.mark.parametrize(
    ("missing", "args", "extra"),
    [
        ("ahocorasick_rs", ["usage", "AKIAIOSFODNN7EXAMPLE", "--source", "archive=."], "archive"),
        ("isal", ["usage", "AKIAIOSFODNN7EXAMPLE", "--source", "archive=."], "archive"),
    ],
)
def test_a_missing_extra_is_named(
    missing: str,
    args: list[str],
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: "pytest.CaptureFixture[str]",
) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("sparekey.console", "sparekey.usage", missing))
    ]:
        # Its parent holds it as an attribute too, and must get this one back, not the one imported meanwhile.
        package, _, leaf = name.rpartition(".")
        if package in sys.modules and hasattr(sys.modules[package], leaf):
            monkeypatch.setattr(sys.modules[package], leaf, sys.modules[name])
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert run_guarded(cli, args) == 2
    result = capsys.readouterr()
    assert f"sparekey[{extra}]" in result.err
    assert "Traceback" not in result.err
