"""`sparekey ledger`: what verify names, what it refuses, and what export passes on."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sparekey.ledger.store import Ledger
from support.cli_harness import CliHarness

_HEADLESS = "r-1\x9b31m\u202e"


@pytest.fixture
def run(sk: CliHarness) -> str:
    """A ledger with one run that nobody touched."""
    sk.home.mkdir(mode=0o700)
    path = sk.home / "sparekey.db"
    assert sk("runs").code == 0
    with closing(Ledger.open(f"sqlite:///{path}")) as ledger:
        from ledger.test_verification import RUN, fill  # the other tests of this module need none

        fill(ledger)
    return RUN


def query(sk: CliHarness, *statements: str) -> None:
    with closing(sqlite3.connect(sk.home / "sparekey.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_run_whose_first_entry_is_gone_is_named(sk: CliHarness, run: str) -> None:
    assert sk("ledger", "verify").code == 0
    query(sk, "DELETE FROM sparekey_entries WHERE seq = 1")
    for asked in ((), (run,)):
        result = sk("ledger", "verify", *asked)
        assert result.code == 1
        assert f"{run}  BROKEN  3 entries" in result.out
        assert f"{run}: entry 1 was removed" in result.err
        assert len(sk("ledger", "export", *asked).out.splitlines()) == 3


def test_what_is_beside_the_chains_is_named(sk: CliHarness, run: str) -> None:
    query(sk, "UPDATE sparekey_claims SET epoch = 9")
    result = sk("ledger", "verify")
    assert result.code == 1
    assert f"{run}  whole  4 entries" in result.out
    assert result.out.splitlines()[-1] == "ledger  BROKEN"
    assert "ledger: the claim on user api in account 1 was taken 9 times" in result.err


def test_a_hostile_run_id_moves_no_cursor(sk: CliHarness, run: str) -> None:
    query(sk, f"UPDATE sparekey_entries SET run = '{_HEADLESS}'")
    result = sk("ledger", "verify")
    assert result.code == 1
    exported = sk("ledger", "export").out
    assert all(char.isprintable() or char == "\n" for char in result.out + result.err + exported)
    assert {json.loads(line)["run"] for line in exported.splitlines()} == {_HEADLESS}


@pytest.mark.parametrize(
    ("args", "received"),
    [
        (("RUN", "--head", ""), "--head is given and empty"),
        (("RUN", "--head", " "), "--head is empty"),
        (("RUN", "--head", "abc"), "--head 'abc' is not a head hash"),
        (("--head", "0" * 64), "--head is the head of one run"),
        (("",), "an argument is given and empty"),
        (("", "--head", "0" * 64), "an argument is given and empty"),
        (("r-ffffffff",), "no run matches"),
    ],
)
def test_what_verify_refuses(sk: CliHarness, run: str, args: tuple[str, ...], received: str) -> None:
    result = sk("ledger", "verify", *(run if arg == "RUN" else arg for arg in args))
    assert (result.code, result.out) == (2, "")
    assert received in result.error


def test_against_a_head(sk: CliHarness, run: str) -> None:
    head = sk("ledger", "verify", run).out.split()[-1]
    assert sk("ledger", "verify", run, "--head", head.upper()).code == 0
    query(sk, "DELETE FROM sparekey_entries WHERE seq = 4")
    result = sk("ledger", "verify", run, "--head", head)
    assert result.code == 1
    assert f"the head {head} is not in the chain: entries after 3 were cut off or replaced" in result.err


def test_export_refuses_an_empty_run(sk: CliHarness, run: str) -> None:
    result = sk("ledger", "export", "")
    assert (result.code, result.out) == (2, "")
    assert len(sk("ledger", "export", run).out.splitlines()) == 4


def test_a_ledger_without_runs(sk: CliHarness, tmp_path: Path) -> None:
    sk.patch.setenv("SPAREKEY_HOME", str(tmp_path / "new"))
    result = sk("ledger", "verify")
    assert (result.code, result.out, result.err) == (0, "", "there is no run yet\n")
