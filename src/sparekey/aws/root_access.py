"""The root user's access keys: of a member account they can be listed and deleted, never deactivated.

That needs centralized root access, and works on no management account.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_root-user-access-management.html
"""

from collections.abc import Mapping
from typing import Any, Literal

from sparekey.aws.access_keys import AccessKeys
from sparekey.aws.client import AwsClient, Principal
from sparekey.aws.errors import AwsError, DeniedError, NotEnteredError
from sparekey.aws.role_sessions import SessionCredentials
from sparekey.model import AccessKey, LastUsed

Task = Literal["IAMAuditRootUserCredentials", "IAMDeleteRootUserCredentials"]

_LONGEST = 900  # seconds; AWS gives no more


def assume_root(client: AwsClient, base: Principal, partition: str, account: str, task: Task) -> Principal:
    """A session of a member account's root user that may do one task; taken when it is first used.

    Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoot.html
    """
    params = {
        "TargetPrincipal": account,
        "TaskPolicyArn": {"arn": f"arn:{partition}:iam::aws:policy/root-task/{task}"},
        "DurationSeconds": _LONGEST,
    }
    region = client.region or client.service("iam").region  # the global STS endpoint refuses AssumeRoot

    def take() -> Mapping[str, Any]:
        try:
            return client.call(base, "sts", "AssumeRoot", params, region=region)
        except AwsError as error:
            why = f"the root user of account {account} cannot be asked: {error.message}"
            hint = error.hint
            if isinstance(error, DeniedError) and hint == DeniedError.default_hint:
                hint = "Centralized root access must be on; it works on no management account."
            raise NotEnteredError(why, hint, code=error.code, action="sts:AssumeRoot") from error

    return Principal(account, SessionCredentials(client.clock, take))


def list_root_keys(client: AwsClient, base: Principal, partition: str, account: str) -> tuple[AccessKey, ...]:
    """The root user's keys in a member account, each with its last use; raises AwsError."""
    keys = AccessKeys(client, assume_root(client, base, partition, account, "IAMAuditRootUserCredentials"))
    return tuple(_with_last_use(keys, key) for key in keys.list_own_keys())


def _with_last_use(keys: AccessKeys, key: AccessKey) -> AccessKey:
    try:
        used = keys.last_used(key.id or "")
    except AwsError as error:
        used = LastUsed("unreadable", why=error.message)
    return AccessKey(key.id, key.status, key.created, used)
