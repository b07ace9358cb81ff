"""The one door through which an access key is deleted; nothing but `sparekey delete` is given it."""

from typing import Protocol

from sparekey.aws.access_keys import AccessKeys
from sparekey.aws.client import AwsClient, Principal
from sparekey.aws.root_access import assume_root


class KeyDeleter(Protocol):
    """The only deletion of a key."""

    def delete_key(self, user: str, key_id: str) -> str:
        """Delete a key, of the root user where `user` is empty; returns the AWS request id."""
        ...


class AccessKeyDeleter:
    """`KeyDeleter` of one account, spoken over the wire."""

    def __init__(self, client: AwsClient, principal: Principal) -> None:
        self._client = client
        self._principal = principal

    @classmethod
    def of_account(cls, account: AccessKeys) -> "AccessKeyDeleter":
        """Of an account that was entered."""
        return cls(account._client, account._principal)  # of the same room

    @classmethod
    def of_root(cls, client: AwsClient, base: Principal, partition: str, account: str) -> "AccessKeyDeleter":
        """Of a member account's root user, by a session that may do nothing else; taken at the first call."""
        root = assume_root(client, base, partition, account, "IAMDeleteRootUserCredentials")
        return cls(client, root)

    def delete_key(self, user: str, key_id: str) -> str:
        """Delete a key, of the root user where `user` is empty; returns the AWS request id.

        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteAccessKey.html
        """
        params = {"UserName": user, "AccessKeyId": key_id} if user else {"AccessKeyId": key_id}
        response = self._client.call(self._principal, "iam", "DeleteAccessKey", params)
        return str(response["ResponseMetadata"].get("RequestId", ""))
