"""Deleting a key against the sandbox: a user's, and that of a member account's root user."""

import pytest

from sparekey.aws.client import Principal
from sparekey.aws.errors import NotFoundError
from sparekey.aws.key_deletion import AccessKeyDeleter
from support.sandbox_gateway import SandboxGateway

HUB, WEB = "111111111111", "222222222222"
SCENARIO = f"""
caller = {{ account = "{HUB}", user = "ops" }}
[organization]
management = "{HUB}"
[[account]]
id = "{HUB}"
name = "hub"
[[account.user]]
name = "ops"
allow = ["iam:DeleteAccessKey", "iam:ListAccessKeys", "iam:GetAccessKeyLastUsed", "sts:AssumeRoot"]
key = [{{ age = "20d" }}]
[[account.user]]
name = "app"
key = [{{ age = "200d", status = "Inactive" }}, {{ age = "20d" }}]
[[account]]
id = "{WEB}"
name = "web"
root_key = [{{ age = "400d", used = {{ ago = "200d" }} }}]
"""


def test_a_users_key_is_deleted_and_is_gone() -> None:
    aws = SandboxGateway(SCENARIO)
    account = aws.gateway.own_account()
    deleter = AccessKeyDeleter.of_account(account)
    old = next(key.id for key in account.list_keys("app") if not key.active)
    assert deleter.delete_key("app", old or "")
    assert [key.active for key in account.list_keys("app")] == [True]
    with pytest.raises(NotFoundError):
        deleter.delete_key("app", old or "")
    assert "iam:DeleteAccessKey" in aws.call_names


def test_a_member_accounts_root_key_is_deleted_through_assume_root() -> None:
    aws = SandboxGateway(SCENARIO)
    (key,) = aws.gateway.list_root_keys(WEB)
    base = Principal(HUB, aws.gateway._credentials)
    deleter = AccessKeyDeleter.of_root(aws.gateway.client, base, "aws", WEB)
    assert deleter.delete_key("", key.id or "")
    assert aws.gateway.list_root_keys(WEB) == ()
