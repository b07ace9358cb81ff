"""The way in: who is asking, and the accounts that can be asked."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.credentials import Credentials as BotocoreCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from sparekey.aws.client import Client, Credentials, OnCall, Principal
from sparekey.aws.errors import AwsError, DeniedError, NoCredentialsError, NotFoundError, from_botocore
from sparekey.aws.keys import Keys
from sparekey.aws.wire import Send
from sparekey.clock import Clock, SystemClock
from sparekey.model import Caller, Unreadable


class AccountGateway(Keys):
    """One account: its keys (`KeyReader`, `KeyWriter`) and what else is asked of it."""

    def __init__(self, client: Client, principal: Principal, partition: str, arn: str) -> None:
        super().__init__(client, principal)
        self.account_id = principal.account
        self.partition = partition
        self.arn = arn  # of the identity that asks in this account

    @property
    def width(self) -> int:
        """How many calls are useful in flight at once: fewer while AWS throttles this account."""
        return self._client.width(self.account_id)

    def alias(self) -> str:
        """The account's alias, empty where it has none; raises AwsError."""
        aliases = self._call("ListAccountAliases")["AccountAliases"]
        return str(aliases[0]) if aliases else ""

    def root_keys(self) -> int:
        """How many access keys the root user has, 0 or 1; raises AwsError.

        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccountSummary.html
        """
        return int(self._call("GetAccountSummary")["SummaryMap"]["AccountAccessKeysPresent"])

    def simulate(self, actions: Sequence[str], resources: Sequence[str]) -> tuple[str, ...] | Unreadable:
        """Which of the actions this identity is denied on any of the resources, sorted; or Unreadable.

        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
        """
        if self.arn.endswith(":root"):
            return ()  # only the organization limits the root user, and nothing simulates that
        try:
            return self._simulate(self._policy_source(), actions, resources)
        except AwsError as error:
            return Unreadable("iam:SimulatePrincipalPolicy", error.message, error.code)

    def _simulate(self, source: str, actions: Sequence[str], resources: Sequence[str]) -> tuple[str, ...]:
        params = {"PolicySourceArn": source, "ActionNames": list(actions), "ResourceArns": list(resources)}
        decided: dict[str, bool] = {}
        marker: dict[str, str] = {}
        while True:
            answer = self._call("SimulatePrincipalPolicy", {**params, **marker})
            for result in answer["EvaluationResults"]:
                name = result["EvalActionName"].lower()
                decided[name] = decided.get(name, True) and result["EvalDecision"] == "allowed"
            if not answer.get("IsTruncated"):
                # An action that was not decided is not allowed.
                return tuple(sorted(name for name in actions if not decided.get(name.lower(), False)))
            marker = {"Marker": answer["Marker"]}

    def _policy_source(self) -> str:
        """The ARN whose policies decide: for a session its role, whose path the session's ARN lacks."""
        prefix, _, rest = self.arn.partition(":assumed-role/")
        if not rest:
            return self.arn
        role = rest.split("/")[0]
        try:
            return str(self._call("GetRole", {"RoleName": role})["Role"]["Arn"])
        except (DeniedError, NotFoundError):
            return f"{prefix.replace(':sts:', ':iam:')}:role/{role}"

    def _call(self, action: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._client.call(self._principal, "iam", action, params)


class Gateway:
    """AWS by one set of base credentials."""

    def __init__(self, client: Client, session: Session, credentials: Credentials) -> None:
        self.client = client
        self._session = session
        self._credentials = credentials
        self._caller: Caller | None = None

    @classmethod
    def connect(
        cls,
        profile: str | None = None,
        region: str | None = None,
        session: Session | None = None,
        clock: Clock | None = None,
        *,
        send: Send | None = None,
        on_call: OnCall | None = None,
    ) -> "Gateway":
        """Find the credentials by botocore's chain; asks AWS nothing. Raises AwsError."""
        session = session or Session(profile=profile)
        try:
            credentials = session.get_credentials()
            # The AWS CLI reads AWS_REGION first; botocore does not read it at all.
            region = region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        except (BotoCoreError, ClientError) as error:
            raise from_botocore(error) from error
        if credentials is None:
            raise NoCredentialsError("no AWS credentials were found")
        client = Client(session, region, clock or SystemClock(), send=send, on_call=on_call)
        return cls(client, session, credentials)

    def caller(self) -> Caller:
        """Who is asking, and every IAM user and long-term key behind it; asked once. Raises AwsError."""
        if self._caller is None:
            arn, account = self._identity(self._credentials)
            keys = {self._access_key(self._credentials)}
            users = {_user(arn)}
            for key in _chain(self._session):
                keys.add(key.access_key)
                users.add(self._user_of(key))
            long_term = frozenset(key for key in keys if not key.startswith("ASIA"))
            self._caller = Caller(account, arn, frozenset(users) - {""}, long_term)
        return self._caller

    def own_account(self) -> AccountGateway:
        """The account of the base credentials; raises AwsError."""
        caller = self.caller()
        principal = Principal(caller.account, self._credentials)
        return AccountGateway(self.client, principal, caller.arn.split(":")[1], caller.arn)

    def _identity(self, credentials: Credentials) -> tuple[str, str]:
        """GetCallerIdentity needs no permission: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html"""
        answer = self.client.call(Principal("", credentials), "sts", "GetCallerIdentity")
        return str(answer["Arn"]), str(answer["Account"])

    def _user_of(self, key: BotocoreCredentials) -> str:
        """The user of a key in the profile chain; empty where AWS no longer knows the key."""
        try:
            return _user(self._identity(key)[0])
        except AwsError:
            return ""  # the key itself stays protected by its id

    def _access_key(self, credentials: Credentials) -> str:
        try:
            return str(credentials.get_frozen_credentials().access_key)
        except (BotoCoreError, ClientError) as error:
            raise from_botocore(error) from error


def _user(arn: str) -> str:
    """The user's name in an ARN, without its path; empty for a role, a federated user or the root user."""
    _, _, rest = arn.partition(":user/")
    return rest.rpartition("/")[2]


def _chain(session: Session) -> list[BotocoreCredentials]:
    """Every long-term key that stands in the profile or in the profiles that it leans on."""
    profiles: Mapping[str, Mapping[str, Any]] = session.full_config.get("profiles", {})
    found, seen, name = [], set(), session.profile or "default"
    while name not in seen and name in profiles:
        seen.add(name)
        profile = profiles[name]
        if "aws_access_key_id" in profile and "aws_secret_access_key" in profile:
            found.append(BotocoreCredentials(profile["aws_access_key_id"], profile["aws_secret_access_key"]))
        name = profile.get("source_profile", "")
    return found
