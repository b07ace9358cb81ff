"""The way in: who is asking, and the accounts that can be asked."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from botocore.credentials import ReadOnlyCredentials
from botocore.session import Session

from sparekey.aws import accounts, credential_report, event_history, root_access
from sparekey.aws.access_keys import AccessKeys, NewAccessKey
from sparekey.aws.accounts import AccountAccess, SelectedAccounts, Target
from sparekey.aws.accounts_file import read_file
from sparekey.aws.client import AwsClient, OnCall, Principal
from sparekey.aws.credential_chain import ChainCredentials, ProfileStore, resolve, setup_of
from sparekey.aws.credential_errors import explain
from sparekey.aws.errors import (
    AwsError,
    DeniedError,
    MalformedResponseError,
    NotFoundError,
)
from sparekey.aws.http_pool import Send
from sparekey.aws.key_deletion import AccessKeyDeleter
from sparekey.aws.paging import PageTokens
from sparekey.aws.role_sessions import AccountSessions
from sparekey.aws.security_hub import SecurityHub
from sparekey.aws.signers import Identity, SigningIdentities
from sparekey.clock import Clock, SystemClock
from sparekey.model import AccessKey, Caller, Quarantined, Unreadable, Value

# Users asked about in one simulation: a request has room for many names, but not for ten thousand.
_SIMULATED_AT_ONCE = 100
# What AWS attaches to a user whose key it has found in public: of 2020, 2021 and 2024.
# https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSCompromisedKeyQuarantineV3.html
_QUARANTINES = (
    "AWSCompromisedKeyQuarantine",
    "AWSCompromisedKeyQuarantineV2",
    "AWSCompromisedKeyQuarantineV3",
)
# Profiles of an accounts file that are resolved and asked about at once.
_IDENTIFIED_AT_ONCE = 16


class IamSummary(Value, frozen=True):
    """What IAM counts in an account."""

    user_count: int
    root_keys: int


class StaticCredentials:
    """A key that signs one call of ours: the one that was just created, to see whether it works yet."""

    def __init__(self, key: NewAccessKey) -> None:
        self._key = key

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """The key; it has no session token."""
        return ReadOnlyCredentials(self._key.id, self._key.secret, None)


class AccountGateway(AccessKeys):
    """One account: its keys (`KeyReader`, `KeyWriter`) and what else is asked of it."""

    def __init__(
        self,
        client: AwsClient,
        principal: Principal,
        partition: str,
        arn: str,
        forget: Callable[[], None] = lambda: None,
        name: str = "",
    ) -> None:
        super().__init__(client, principal)
        self._name = name
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
    def max_in_flight(self) -> int:
        """How many calls are useful in flight at once: fewer while AWS throttles this account."""
        return self._client.max_in_flight(self.account_id)

    def alias(self) -> str:
        """The account's alias, else its name in the organization, else an empty text; raises AwsError."""
        result = self._client.query(self._principal, "iam", "ListAccountAliases", {})
        return result.findtext("AccountAliases/member", "") or self._name

    def summary(self) -> IamSummary:
        """How many users the account has, and how many access keys its root user; raises AwsError.

        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccountSummary.html
        """
        result = self._client.query(self._principal, "iam", "GetAccountSummary", {})
        counts = {entry.findtext("key"): entry.findtext("value", "") for entry in result.iterfind("*/entry")}
        try:
            return IamSummary(int(counts["Users"]), int(counts["AccountAccessKeysPresent"]))
        except (KeyError, ValueError) as error:
            raise MalformedResponseError(f"the answer to iam:GetAccountSummary has no {error}") from error

    def root_keys(self) -> int:
        """How many access keys the root user has, 0 or 1; raises AwsError."""
        return self.summary().root_keys

    def credential_report(self) -> credential_report.CredentialReport:
        """The credential report, made if there is none; raises AwsError."""
        return credential_report.fetch_report(self._call, self._client.clock)

    def key_changes(self, since: datetime) -> event_history.KeyChanges:
        """Whose keys changed since, by the event history of IAM's own region; raises AwsError."""
        return event_history.key_changes(self._event_history, since)

    def creator_of_key(self, key_id: str, since: datetime) -> str:
        """The ARN of who created a key since a time; empty where no event shows it. Raises AwsError."""
        return event_history.creator_of_key(self._event_history, key_id, since)

    def _event_history(self, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        region = self._client.service("iam").region
        return self._client.call(self._principal, "cloudtrail", action, params, region=region)

    def identity_behind(self, key: NewAccessKey, region: str) -> str:
        """The ARN that a key signs as in a region; raises AwsError, RejectedCredentialsError while it is too new.

        Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
        """
        signer = Principal(self.account_id, StaticCredentials(key))
        answer = self._client.call(signer, "sts", "GetCallerIdentity", region=region or None, attempts=1)
        return str(answer["Arn"])

    def write(
        self, service: str, action: str, params: Mapping[str, Any], region: str | None = None
    ) -> dict[str, Any]:
        """One call that writes to a store of secrets; repeating it changes nothing. Raises AwsError."""
        return self._client.call(self._principal, service, action, params, region=region)

    def quarantined_users(self) -> tuple[Quarantined, ...]:
        """The users whom AWS has quarantined for a leaked key; raises AwsError.

        A policy that a partition does not have is attached to nobody.
        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListEntitiesForPolicy.html
        """
        users: list[Quarantined] = []
        for name in _QUARANTINES:
            params = {"PolicyArn": f"arn:{self.partition}:iam::aws:policy/{name}", "EntityFilter": "User"}
            try:
                users += [
                    Quarantined(member.findtext("UserName", ""), member.findtext("UserId", ""), name)
                    for member in self._pages("ListEntitiesForPolicy", params, "PolicyUsers")
                ]
            except NotFoundError:
                continue
        return tuple(users)

    def security_hub(self) -> SecurityHub:
        """Security Hub in this account and the client's region; raises AwsError where no region is named."""
        return SecurityHub(self._client, self._principal)

    def call(
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

    def close(self) -> None:
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
            parts = [
                asked[at : at + _SIMULATED_AT_ONCE] for at in range(0, len(asked), _SIMULATED_AT_ONCE)
            ] or [asked]
            return tuple(sorted({no for part in parts for no in self._simulate(source, actions, part)}))
        except AwsError as error:
            return Unreadable("iam:SimulatePrincipalPolicy", error.message, error.code)

    def _simulate(self, source: str, actions: Sequence[str], resources: Sequence[str]) -> tuple[str, ...]:
        params = {"PolicySourceArn": source, "ActionNames": list(actions), "ResourceArns": list(resources)}
        decided: dict[str, bool] = {}
        marker: dict[str, str] = {}
        pages = PageTokens("iam:SimulatePrincipalPolicy")
        while True:
            response = self._call("SimulatePrincipalPolicy", {**params, **marker})
            for result in response["EvaluationResults"]:
                name = result["EvalActionName"].lower()
                each = result.get("ResourceSpecificResults", ())
                decisions = {
                    result["EvalDecision"],
                    *(resource_result["EvalResourceDecision"] for resource_result in each),
                }
                decided[name] = decided.get(name, True) and decisions == {"allowed"}
            if not response.get("IsTruncated"):
                # An action that was not decided is not allowed.
                return tuple(sorted(name for name in actions if not decided.get(name.lower(), False)))
            marker = {"Marker": pages.next_params(str(response["Marker"]))}

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


class AwsGateway:
    """AWS by one set of base credentials."""

    def __init__(self, client: AwsClient, credentials: ChainCredentials, profiles: ProfileStore) -> None:
        self.client = client
        self._credentials = credentials
        self._profiles = profiles
        self._signers = SigningIdentities(client)
        self._sessions = AccountSessions(client, profiles, self._signers)
        self._caller: tuple[int, Caller] | None = None

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
    ) -> "AwsGateway":
        """Find the credentials by botocore's chain; asks AWS nothing. Raises AwsError."""
        session = session or Session(profile=profile)
        # The AWS CLI reads AWS_REGION first; botocore does not read it at all.
        named = region or os.environ.get("AWS_REGION") or ""
        try:
            region = named or session.get_config_variable("region")
            if region:
                # A profile's role is assumed in this region: each partition has its own STS.
                session.set_config_variable("region", region)
            credentials = resolve(session)
            client = AwsClient(session, region, clock or SystemClock(), send=send, on_call=on_call)
        except Exception as error:  # noqa: BLE001  # a setting that is no number, among others
            raise explain(error, setup_of(session), session) from None

        def open_session(name: str) -> Session:
            of_profile = Session(profile=name)
            if here := named or of_profile.get_config_variable("region") or region:
                of_profile.set_config_variable("region", here)
            return of_profile

        return cls(client, credentials, ProfileStore(open_session, session))

    def caller(self, *, again: bool = False) -> Caller:
        """Who is asking, and every IAM user and long-term key that signs for us; raises AwsError.

        It covers the base credentials, every profile that was used so far, and the static keys of every profile
        that an accounts file names. `again` asks AWS once more, as before a write.
        """
        used = self._profiles.used()
        if self._caller is None or again or self._caller[0] != len(used):
            static = self._profiles.static_keys()
            signing = self._signers.caller(self._credentials, used, static, again=again)
            self._caller = len(used), signing
        return self._caller[1]

    def protect_signing_key(self, *, key: str = "", profile: str = "") -> None:
        """Protect a key by its id, and the keys that stand in a profile, as if we signed with them."""
        self._profiles.name(frozenset({profile} - {""}), frozenset({key} - {""}))

    def identify(self, targets: Sequence[Target]) -> None:
        """Resolve the profiles of these accounts and ask who they are; one that fails is reported where it is used."""
        profiles = sorted({target.profile for target in targets if target.profile})
        if not profiles:
            return
        self._profiles.name(frozenset(profiles))
        with ThreadPoolExecutor(_IDENTIFIED_AT_ONCE, thread_name_prefix="identify") as pool:
            for _ in pool.map(self._identify, profiles):
                pass

    def _identify(self, profile: str) -> None:
        with suppress(AwsError):
            self._signers.identity(self._profiles.credentials(profile).get_frozen_credentials())

    def own_account(self) -> AccountGateway:
        """The account of the base credentials; raises AwsError."""
        own = self._identity()
        principal = Principal(own.account, self._credentials)
        return AccountGateway(self.client, principal, self.partition, own.arn)

    def organization(
        self,
        *,
        units: Sequence[str] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        entry: AccountAccess,
    ) -> SelectedAccounts:
        """The organization's accounts; raises AwsError, and BadInputError where a role is not named."""
        own = self.account
        base = Principal(own, self._credentials)

        def call(action: str, params: Mapping[str, Any]) -> dict[str, Any]:
            return self.client.call(base, "organizations", action, params)

        return accounts.organization_accounts(
            call,
            own,
            self.partition,
            units=units,
            include=include,
            exclude=exclude,
            entry=entry,
        )

    def accounts_file(
        self, path: Path, *, include: Sequence[str] = (), exclude: Sequence[str] = ()
    ) -> SelectedAccounts:
        """The accounts of a file; raises AwsError and BadInputError."""
        targets = read_file(path, self.account, self.partition)
        self._profiles.name(frozenset(target.profile for target in targets if target.profile))
        return SelectedAccounts(accounts.select_accounts(targets, include, exclude))

    def enter(self, target: Target) -> AccountGateway:
        """One account; its role is assumed when it is first asked for something, and the session is kept."""
        own = self._identity()
        base = Principal(own.account, self._credentials)
        principal = Principal(target.id, self._sessions.credentials_for(base, target))
        arn = target.roles[-1] if target.roles else "" if target.profile else own.arn
        return AccountGateway(
            self.client, principal, self.partition, arn, lambda: self._sessions.forget(target), target.name
        )

    def list_root_keys(self, account: str) -> tuple[AccessKey, ...]:
        """The root user's keys in a member account, each with its last use; raises AwsError."""
        base = Principal(self.account, self._credentials)
        return root_access.list_root_keys(self.client, base, self.partition, account)

    def root_deleter(self, account: str) -> AccessKeyDeleter:
        """The door through which a member account's root keys are deleted."""
        base = Principal(self.account, self._credentials)
        return AccessKeyDeleter.of_root(self.client, base, self.partition, account)

    def clock_offset(self) -> timedelta | None:
        """How far this clock is ahead of AWS's, by the last answer; None where that had no date. Raises AwsError."""
        self._identity()
        date, received = self.client.server_date
        return received - parsedate_to_datetime(date) if date else None

    def credentials_expire_at(self) -> datetime | None:
        """When the credentials may end for good; None where they are long-term or renew themselves.

        Nothing says how long a session lasts that was passed in, or a sign-in: it may be over at any moment.
        """
        return (
            self.client.clock.now() if self._credentials.expires_at() or self._profiles.expires_at() else None
        )

    def alarm_state(self, account: str, region: str, name: str) -> str:
        """The state of a CloudWatch alarm: OK, ALARM or INSUFFICIENT_DATA; raises AwsError.

        Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html
        """
        own = self.account
        if account not in ("", own):
            raise AwsError(f"the alarm {name} is in account {account}, the credentials are of account {own}")
        response = self.client.call(
            Principal(own, self._credentials),
            "cloudwatch",
            "DescribeAlarms",
            {"AlarmNames": [name], "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]},
            region=region or None,
        )
        for alarm in (*response.get("MetricAlarms", ()), *response.get("CompositeAlarms", ())):
            return str(alarm["StateValue"])
        raise NotFoundError(f"there is no alarm {name} in {region}", action="cloudwatch:DescribeAlarms")

    @property
    def partition(self) -> str:
        """The partition of the caller; roles do not cross partitions."""
        return self._identity().arn.split(":")[1]

    @property
    def account(self) -> str:
        """The account of the base credentials; raises AwsError."""
        return self._identity().account

    def _identity(self) -> Identity:
        return self._signers.identity(self._credentials.get_frozen_credentials())
