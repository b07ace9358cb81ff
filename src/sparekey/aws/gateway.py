"""The way in: who is asking, and the accounts that can be asked."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.credentials import Credentials as BotocoreCredentials
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from sparekey.aws import accounts, credential_report, event_history, root
from sparekey.aws.accounts import Entry, Selection, Target
from sparekey.aws.client import Client, Credentials, OnCall, Principal
from sparekey.aws.deleting import Deleter
from sparekey.aws.errors import (
    AwsError,
    BadAnswerError,
    DeniedError,
    NoCredentialsError,
    NotFoundError,
    from_botocore,
)
from sparekey.aws.keys import Keys
from sparekey.aws.paging import Pages
from sparekey.aws.security_hub import SecurityHub
from sparekey.aws.wire import Send
from sparekey.clock import Clock, SystemClock
from sparekey.model import AccessKey, Caller, Unreadable, Value

# Users asked about in one simulation: a request has room for many names, but not for ten thousand.
_SIMULATED = 100


class Summary(Value, frozen=True):
    """What IAM counts in an account."""

    users: int
    root_keys: int


class AccountGateway(Keys):
    """One account: its keys (`KeyReader`, `KeyWriter`) and what else is asked of it."""

    def __init__(
        self,
        client: Client,
        principal: Principal,
        partition: str,
        arn: str,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(client, principal)
        self._forget = forget
        self.account_id = principal.account
        self.partition = partition
        self._arn = arn

    @property
    def arn(self) -> str:
        """The ARN of the identity that asks in this account; raises AwsError."""
        if not self._arn:
            self._arn = str(self._client.call(self._principal, "sts", "GetCallerIdentity")["Arn"])
        return self._arn

    @property
    def width(self) -> int:
        """How many calls are useful in flight at once: fewer while AWS throttles this account."""
        return self._client.width(self.account_id)

    def alias(self) -> str:
        """The account's alias, empty where it has none; raises AwsError."""
        result = self._client.query(self._principal, "iam", "ListAccountAliases", {})
        return result.findtext("AccountAliases/member", "")

    def summary(self) -> Summary:
        """How many users the account has, and how many access keys its root user; raises AwsError.

        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccountSummary.html
        """
        result = self._client.query(self._principal, "iam", "GetAccountSummary", {})
        counts = {entry.findtext("key"): entry.findtext("value", "") for entry in result.iterfind("*/entry")}
        try:
            return Summary(int(counts["Users"]), int(counts["AccountAccessKeysPresent"]))
        except (KeyError, ValueError) as error:
            raise BadAnswerError(f"the answer to iam:GetAccountSummary has no {error}") from error

    def root_keys(self) -> int:
        """How many access keys the root user has, 0 or 1; raises AwsError."""
        return self.summary().root_keys

    def credential_report(self) -> credential_report.CredentialReport:
        """The credential report, made if there is none; raises AwsError."""
        return credential_report.fetch(self._call, self._client.clock)

    def key_changes(self, since: datetime) -> event_history.Changes:
        """Whose keys changed since, by the event history of IAM's own region; raises AwsError."""
        region = self._client.service("iam").region

        def call(action: str, params: Mapping[str, Any]) -> dict[str, Any]:
            return self._client.call(self._principal, "cloudtrail", action, params, region=region)

        return event_history.changes(call, since)

    def security_hub(self) -> SecurityHub:
        """Security Hub in this account and the client's region; raises AwsError where no region is named."""
        return SecurityHub(self._client, self._principal)

    def ask(
        self, service: str, action: str, params: Mapping[str, Any], region: str | None = None
    ) -> dict[str, Any]:
        """One call that reads, in this account; raises AwsError."""
        return self._client.call(self._principal, service, action, params, region=region)

    def publish(self, topic: str, subject: str, text: str) -> None:
        """Publish to an SNS topic, in the region that its ARN names; raises AwsError.

        Source: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
        """
        params = {"TopicArn": topic, "Subject": subject, "Message": text}
        region = topic.split(":")[3]
        self._client.call(self._principal, "sns", "Publish", params, region=region, idempotent=False)

    def release(self) -> None:
        """Drop what is kept for speed: the pace, and a role's session, which is taken again when needed."""
        self._client.forget(self.account_id)
        self._forget()

    def simulate(self, actions: Sequence[str], resources: Sequence[str]) -> tuple[str, ...] | Unreadable:
        """Which of the actions this identity is denied on any of the resources, sorted; or Unreadable.

        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
        """
        try:
            if self.arn.endswith(":root"):
                return ()  # only the organization limits the root user, and nothing simulates that
            source, asked = self._policy_source(), list(resources)
            parts = [asked[at : at + _SIMULATED] for at in range(0, len(asked), _SIMULATED)] or [asked]
            return tuple(sorted({no for part in parts for no in self._simulate(source, actions, part)}))
        except AwsError as error:
            return Unreadable("iam:SimulatePrincipalPolicy", error.message, error.code)

    def _simulate(self, source: str, actions: Sequence[str], resources: Sequence[str]) -> tuple[str, ...]:
        params = {"PolicySourceArn": source, "ActionNames": list(actions), "ResourceArns": list(resources)}
        decided: dict[str, bool] = {}
        marker: dict[str, str] = {}
        pages = Pages("iam:SimulatePrincipalPolicy")
        while True:
            answer = self._call("SimulatePrincipalPolicy", {**params, **marker})
            for result in answer["EvaluationResults"]:
                name = result["EvalActionName"].lower()
                each = result.get("ResourceSpecificResults", ())
                decisions = {result["EvalDecision"], *(one["EvalResourceDecision"] for one in each)}
                decided[name] = decided.get(name, True) and decisions == {"allowed"}
            if not answer.get("IsTruncated"):
                # An action that was not decided is not allowed.
                return tuple(sorted(name for name in actions if not decided.get(name.lower(), False)))
            marker = {"Marker": pages.following(str(answer["Marker"]))}

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
        self._sessions = accounts.Sessions(client)

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
        return AccountGateway(self.client, principal, self.partition, caller.arn)

    def organization(
        self,
        *,
        units: Sequence[str] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        entry: Entry,
    ) -> Selection:
        """The organization's accounts; raises AwsError, and BadInputError where a role is not named."""
        caller = self.caller()
        base = Principal(caller.account, self._credentials)

        def call(action: str, params: Mapping[str, Any]) -> dict[str, Any]:
            return self.client.call(base, "organizations", action, params)

        return accounts.organization(
            call,
            caller.account,
            self.partition,
            units=units,
            include=include,
            exclude=exclude,
            entry=entry,
        )

    def accounts_file(
        self, path: Path, *, include: Sequence[str] = (), exclude: Sequence[str] = ()
    ) -> Selection:
        """The accounts of a file; raises AwsError and BadInputError."""
        targets = accounts.read_file(path, self.caller().account, self.partition)
        return Selection(accounts.choose(targets, include, exclude))

    def enter(self, target: Target) -> AccountGateway:
        """One account; its role is assumed when it is first asked for something, and the session is kept."""
        caller = self.caller()
        base = Principal(caller.account, self._credentials)
        principal = Principal(target.id, self._sessions.of(base, target))
        arn = target.roles[-1] if target.roles else "" if target.profile else caller.arn
        return AccountGateway(
            self.client, principal, self.partition, arn, lambda: self._sessions.forget(target)
        )

    def list_root_keys(self, account: str) -> tuple[AccessKey, ...]:
        """The root user's keys in a member account, each with its last use; raises AwsError."""
        base = Principal(self.caller().account, self._credentials)
        return root.list_root_keys(self.client, base, self.partition, account)

    def root_deleter(self, account: str) -> Deleter:
        """The door through which a member account's root keys are deleted."""
        base = Principal(self.caller().account, self._credentials)
        return Deleter.of_root(self.client, base, self.partition, account)

    def credentials_end(self) -> datetime | None:
        """When the base credentials end for good; None where they are long-term or renew themselves.

        Nothing tells the end of a session that was handed over as it is: it may be over at any moment.
        """
        if isinstance(self._credentials, RefreshableCredentials):
            return None
        try:
            token = self._credentials.get_frozen_credentials().token
        except (BotoCoreError, ClientError) as error:
            raise from_botocore(error) from error
        return self.client.clock.now() if token else None

    def alarm_state(self, account: str, region: str, name: str) -> str:
        """The state of a CloudWatch alarm: OK, ALARM or INSUFFICIENT_DATA; raises AwsError.

        Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html
        """
        own = self.caller().account
        if account not in ("", own):
            raise AwsError(f"the alarm {name} is in account {account}, the credentials are of account {own}")
        answer = self.client.call(
            Principal(own, self._credentials),
            "cloudwatch",
            "DescribeAlarms",
            {"AlarmNames": [name], "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]},
            region=region or None,
        )
        for alarm in (*answer.get("MetricAlarms", ()), *answer.get("CompositeAlarms", ())):
            return str(alarm["StateValue"])
        raise NotFoundError(f"there is no alarm {name} in {region}", action="cloudwatch:DescribeAlarms")

    @property
    def partition(self) -> str:
        """The partition of the caller; roles do not cross partitions."""
        return self.caller().arn.split(":")[1]

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
