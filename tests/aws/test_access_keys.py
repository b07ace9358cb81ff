"""One account's keys as AWS tells them."""

from datetime import UTC, datetime
from itertools import count

import pytest

from sparekey.aws.errors import AwsError, MalformedResponseError, NotFoundError
from sparekey.aws.http_pool import ConnectionLostError, HttpResponse
from sparekey.model import NEVER_USED, LastUsed
from support.scripted_aws import ACCOUNT, ScriptedAws, failure, key_xml, ok, own_account, page, user_xml


def test_users_come_from_all_pages_even_short_ones() -> None:
    first = ok("ListUsers", page("Users", "", marker="a"))  # an empty page that goes on
    second = ok("ListUsers", page("Users", user_xml("ann") + user_xml("bob", "/team/"), marker="b"))
    aws = ScriptedAws(ListUsers=[first, second, ok("ListUsers", page("Users", user_xml("zoë")))])
    users = list(own_account(aws).list_users())
    assert [(user.name, user.arn) for user in users] == [
        ("ann", f"arn:aws:iam::{ACCOUNT}:user/ann"),
        ("bob", f"arn:aws:iam::{ACCOUNT}:user/team/bob"),
        ("zoë", f"arn:aws:iam::{ACCOUNT}:user/zoë"),
    ]
    assert [asked.get("Marker") for asked in aws.call_names[1:]] == [None, "a", "b"]
    assert {asked["MaxItems"] for asked in aws.call_names[1:]} == {"1000"}


def test_keys_come_from_all_pages() -> None:
    first = ok("ListAccessKeys", page("AccessKeyMetadata", key_xml("AKIA1") + key_xml("AKIA2"), marker="m"))
    second = ok("ListAccessKeys", page("AccessKeyMetadata", key_xml("AKIA3", "Expired")))
    aws = ScriptedAws(ListAccessKeys=[first, second])
    keys = own_account(aws).list_keys("ann")
    assert [(key.id, key.active) for key in keys] == [("AKIA1", True), ("AKIA2", True), ("AKIA3", False)]
    assert keys[0].created == datetime(2026, 1, 1, tzinfo=UTC)
    assert aws.call_names[-1] | {"Version": ""} == {
        "Action": "ListAccessKeys",
        "Version": "",
        "UserName": "ann",
        "MaxItems": "1000",
        "Marker": "m",
    }


def test_only_who_is_called_exactly_so_is_meant() -> None:
    """IAM does not distinguish names by case: a plan could name an exempt user in another one."""
    answer = ok("ListAccessKeys", page("AccessKeyMetadata", key_xml("AKIA1", user="Ann")))
    aws = own_account(ScriptedAws(ListAccessKeys=lambda _: answer))
    with pytest.raises(NotFoundError, match="no user is called ann: AWS lists the keys of Ann"):
        aws.list_keys("ann")
    assert [key.id for key in aws.list_keys("Ann")] == ["AKIA1"]


@pytest.mark.parametrize(
    "inner",
    [
        "<AccessKeyMetadata/><IsTruncated>true</IsTruncated>",
        "<IsTruncated>false</IsTruncated>",
        page("AccessKeyMetadata", "<member><Status>Active</Status></member>"),
        page("AccessKeyMetadata", key_xml("AKIA1", created="yesterday")),
    ],
)
def test_an_answer_that_is_not_whole_is_an_error(inner: str) -> None:
    with pytest.raises(MalformedResponseError):
        own_account(ScriptedAws(ListAccessKeys=[ok("ListAccessKeys", inner)])).list_keys("ann")


def test_markers_that_lead_in_a_circle_are_an_error() -> None:
    def answer(asked: dict[str, str]) -> HttpResponse:
        following = {"": "a", "a": "b", "b": "a"}[asked.get("Marker", "")]
        return ok("ListUsers", page("Users", user_xml("ann"), marker=following))

    with pytest.raises(MalformedResponseError, match="pages of iam:ListUsers lead in a circle"):
        list(own_account(ScriptedAws(ListUsers=answer)).list_users())


def test_pages_without_an_end_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparekey.aws.paging._MAX_PAGES", 20)
    numbers = count()
    aws = ScriptedAws(ListUsers=lambda _: ok("ListUsers", page("Users", "", marker=f"m{next(numbers)}")))
    with pytest.raises(MalformedResponseError, match="continues after 20 pages"):
        list(own_account(aws).list_users())
    assert aws.count("ListUsers") == 21


def _used(inner: str) -> HttpResponse:
    return ok(
        "GetAccessKeyLastUsed", f"<UserName>ann</UserName><AccessKeyLastUsed>{inner}</AccessKeyLastUsed>"
    )


def test_last_use_is_a_time_or_never() -> None:
    used = _used(
        "<LastUsedDate>2026-02-01T10:15:00Z</LastUsedDate><ServiceName>s3</ServiceName><Region>N/A</Region>"
    )
    never = _used("<ServiceName>N/A</ServiceName><Region>N/A</Region>")
    account = own_account(ScriptedAws(GetAccessKeyLastUsed=[used, never]))
    assert account.last_used("AKIA1") == LastUsed(
        "used", datetime(2026, 2, 1, 10, 15, tzinfo=UTC), "s3", None
    )
    assert account.last_used("AKIA2") == NEVER_USED


@pytest.mark.parametrize(
    "answer", [_used("<ServiceName>s3</ServiceName>"), ok("GetAccessKeyLastUsed", "<UserName>ann</UserName>")]
)
def test_half_an_answer_is_not_never_used(answer: HttpResponse) -> None:
    with pytest.raises(MalformedResponseError):
        own_account(ScriptedAws(GetAccessKeyLastUsed=[answer])).last_used("AKIA1")


def test_the_one_write_names_user_key_and_status() -> None:
    aws = ScriptedAws(UpdateAccessKey=[ok("UpdateAccessKey")])
    assert own_account(aws).set_status("ann", "AKIA1", "Inactive") == "req-UpdateAccessKey"
    assert aws.call_names[-1] | {"Version": ""} == {
        "Action": "UpdateAccessKey",
        "Version": "",
        "UserName": "ann",
        "AccessKeyId": "AKIA1",
        "Status": "Inactive",
    }


@pytest.mark.parametrize(
    "trouble",
    [
        failure("Throttling"),
        failure("RequestTimeout"),
        failure("InternalFailure", 500),
        ConnectionLostError("reset", sent=True),
        ConnectionLostError("refused", sent=False),
    ],
)
def test_the_one_write_is_sent_once_for_the_turn_may_be_over(trouble: HttpResponse | Exception) -> None:
    aws = ScriptedAws(UpdateAccessKey=lambda _: trouble)
    with pytest.raises(AwsError):
        own_account(aws).set_status("ann", "AKIA1", "Inactive")
    assert aws.count("UpdateAccessKey") == 1
