"""An error that nobody foresaw is shown by its type and place; a secret in its text reaches nobody."""

import asyncio
import pickle
import threading
from collections.abc import Callable
from typing import NoReturn

import click
import pytest
from botocore.parsers import ResponseParserError

from sparekey.aws.accounts import Target
from sparekey.aws.client import Principal
from sparekey.aws.errors import AwsError, MalformedResponseError
from sparekey.aws.http_pool import HttpResponse
from sparekey.cli.failures import report_thread_failure, run_guarded
from sparekey.console.state import ConsoleState
from sparekey.errors import UnexpectedError, kind_and_place, trace
from support.scripted_aws import ACCOUNT, ScriptedAws, connect, own_account, session

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TORN = f"<AssumeRoleResponse><Credentials><SecretAccessKey>{SECRET}</SecretAccessKey>".encode()


def torn() -> NoReturn:
    """As botocore fails at an answer that was cut: the text is the whole answer, and an error is behind it."""
    raise ResponseParserError(f"Unable to parse response:\n{TORN!r}") from ValueError(f"not XML: {SECRET}")


@pytest.mark.parametrize("debug", ["", "1"])
def test_the_command_line_shows_type_and_place(
    capsys: "pytest.CaptureFixture[str]", monkeypatch: pytest.MonkeyPatch, debug: str
) -> None:
    monkeypatch.setenv("SPAREKEY_DEBUG", debug)
    assert run_guarded(click.Command("x", callback=torn), []) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert SECRET[:20] not in err
    lines = err.splitlines()
    assert (
        lines[-2]
        == "error: unexpected error: ResponseParserError (cli/failures.py, line "
        + lines[-2].rsplit(" line ")[-1]
    )
    assert lines[-1].startswith("hint: SPAREKEY_DEBUG=1 ")
    assert ("test_unexpected.py, line" in err) is bool(debug)
    assert ("ValueError" in err) is bool(debug)


def test_a_chain_that_bites_its_own_tail_has_an_end() -> None:
    first, second = KeyError(SECRET), OSError(SECRET)
    first.__cause__, second.__cause__ = second, first
    assert trace(first) == ["OSError", "KeyError"]
    assert kind_and_place(first) == "KeyError"


def test_it_outlives_a_way_through_a_database() -> None:
    error = pickle.loads(pickle.dumps(UnexpectedError.of(KeyError(SECRET))))  # our own
    assert error.message == "unexpected error: KeyError"


def test_an_answer_of_ours_that_is_torn_is_not_told() -> None:
    aws = ScriptedAws(AssumeRole=lambda _: HttpResponse(200, {}, TORN))
    with pytest.raises(MalformedResponseError) as caught:
        list(
            connect(aws)
            .enter(Target("222222222222", roles=("arn:aws:iam::222222222222:role/R",)))
            .list_users()
        )
    assert "sts:AssumeRole" in caught.value.message
    assert SECRET[:20] not in "".join((caught.value.message, caught.value.hint, *trace(caught.value)))


@pytest.mark.parametrize("call", ["list", "query"])
def test_a_listing_that_is_torn_is_not_told(call: str) -> None:
    account = own_account(
        ScriptedAws(ListUsers=[HttpResponse(200, {}, TORN)], ListAccountAliases=[HttpResponse(200, {}, TORN)])
    )
    calls: dict[str, Callable[[], object]] = {
        "list": lambda: list(account.list_users()),
        "query": account.alias,
    }
    with pytest.raises(MalformedResponseError) as caught:
        calls[call]()
    assert SECRET[:20] not in "".join((caught.value.message, caught.value.hint))


def test_what_fails_in_botocores_own_calls_is_known_by_its_type() -> None:
    class Broken:
        def get_frozen_credentials(self) -> NoReturn:
            torn()

    with pytest.raises(AwsError) as caught:
        connect(ScriptedAws()).client.call(Principal(ACCOUNT, Broken()), "sts", "GetCallerIdentity")
    assert caught.value.message == "sts:GetCallerIdentity failed in an unexpected way (ResponseParserError)"
    assert session().get_credentials()


def test_a_thread_that_ends_is_told_by_type(
    capsys: "pytest.CaptureFixture[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", report_thread_failure)
    thread = threading.Thread(target=torn)
    thread.start()
    thread.join()
    err = capsys.readouterr().err
    assert err.startswith("warning: a thread ended: unexpected error: ResponseParserError")
    assert SECRET[:20] not in err


def test_a_run_of_the_console_that_fails_is_told_by_type() -> None:
    desk = ConsoleState.__new__(ConsoleState)
    desk._jobs, desk.busy, desk.failures = set(), {"r-1": 1}, {}

    async def run() -> None:
        task = asyncio.ensure_future(asyncio.to_thread(torn))
        await asyncio.wait([task])
        desk._ended("r-1", task)

    thread = threading.Thread(
        target=lambda: asyncio.run(run())
    )  # a browser's test may have a loop in this one
    thread.start()
    thread.join()
    assert "ResponseParserError" in desk.failures["r-1"].message
    assert SECRET[:20] not in desk.failures["r-1"].message
