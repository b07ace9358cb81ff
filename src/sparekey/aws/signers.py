"""Who signs for us: the users and keys behind every credential source, each in its own account.

A session of a role that was passed in does not show whose key created it. Then the role's trust policy names whom it
lets in, and every such user may be the one.
"""

import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import msgspec

from sparekey.aws.client import AwsClient, Principal
from sparekey.aws.credential_chain import ChainCredentials, FrozenCredentials
from sparekey.aws.errors import AwsError
from sparekey.model import ANY, Caller

# An identity is asked for again before a write if it was asked for longer ago.
_FRESH_FOR = timedelta(minutes=1)
# Only IAM Identity Center gets into these: https://docs.aws.amazon.com/singlesignon/latest/userguide/using-service-linked-roles.html
_RESERVED = "AWSReservedSSO_"
UserId = tuple[str, str]


class Identity(msgspec.Struct, frozen=True):
    """Who AWS reports that somebody is."""

    arn: str
    account: str

    @property
    def user(self) -> str:
        """The IAM user's name without its path; empty for a role, a federated user or the root user."""
        _, _, rest = self.arn.partition(":user/")
        return rest.rpartition("/")[2]

    @property
    def role(self) -> str:
        """The name of the role whose session this is; empty for anything else."""
        _, _, rest = self.arn.partition(":assumed-role/")
        return rest.partition("/")[0]

    @property
    def federated(self) -> bool:
        """True for a session of GetFederationToken, which a user's key has taken."""
        return ":federated-user/" in self.arn


class _KnownIdentity(msgspec.Struct, frozen=True):
    identity: Identity
    at: datetime


class SigningIdentities:
    """Asks AWS who the credential sources are; thread-safe."""

    def __init__(self, client: AwsClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: dict[str, _KnownIdentity] = {}
        self._source_credentials: dict[int, Identity] = {}
        self._session_issuers: dict[str, tuple[frozenset[UserId], str]] = {}

    def identity(self, frozen: FrozenCredentials, *, again: bool = False) -> Identity:
        """The identity of credentials; for a key asked about before, AWS's answer then. Raises AwsError.

        With `again` AWS is asked once more after a minute. No permission is needed.
        Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
        """
        known = self._known.get(frozen.access_key)
        now = self._client.clock.now()
        if known and not (again and abs(now - known.at) > _FRESH_FOR):
            return known.identity
        try:
            response = self._client.call(Principal("", frozen), "sts", "GetCallerIdentity")
        except AwsError:
            if known:
                return known.identity  # a session that has ended meanwhile was this identity's all the same
            raise
        identity = Identity(str(response["Arn"]), str(response["Account"]))
        with self._lock:
            self._known[frozen.access_key] = _KnownIdentity(identity, now)
        return identity

    def caller(
        self,
        base: ChainCredentials,
        others: Iterable[ChainCredentials],
        static: Iterable[str],
        *,
        again: bool,
    ) -> Caller:
        """Who signs by the base credentials and the others; raises AwsError where the base cannot be asked.

        `static` are keys that are protected by their id alone.
        """
        top = self.identity(base.get_frozen_credentials(), again=again)
        keys = _SigningKeys()
        keys.keys |= set(static)
        for credentials in (base, *others):
            self._collect_behind(credentials, keys, again=again)
        return Caller(
            account=top.account,
            arn=top.arn,
            users=frozenset(keys.users),
            keys=frozenset(keys.keys),
            suspects=frozenset(keys.suspects),
            unknown=tuple(sorted(keys.unknown)),
        )

    def _collect_behind(self, credentials: ChainCredentials, keys: "_SigningKeys", *, again: bool) -> None:
        """Note the user and the keys behind one set of credentials: those at the bottom of the chain."""
        subject = credentials.setup.subject
        keys.keys |= set(credentials.setup.static_keys())
        if not credentials.complete:
            keys.suspect(f"the credentials by which {subject} takes its role are not known", {(ANY, ANY)})
            return
        bottom = credentials.links[-1]
        try:
            frozen = credentials.frozen(bottom)
        except AwsError as error:
            known = self._source_credentials.get(id(bottom))
            keys.unknown.add(f"the credentials behind {subject} could not be asked: {error.message}")
            if known and known.user:
                keys.users.add((known.account, known.user))
            elif not credentials.given_by_aws():
                keys.suspects.add((ANY, ANY))  # a role's session does not show whose key took it
            return
        long_term = not frozen.token
        if long_term:
            keys.keys.add(frozen.access_key)
        try:
            identity = self.identity(frozen, again=again)
        except AwsError as error:
            why = f"AWS did not identify who signs for {subject}: {error.message}"
            if long_term or credentials.given_by_aws():
                keys.unknown.add(why)  # the key is protected by its id, whose ever it is
            else:
                keys.suspect(why, {(self._account_of(credentials, frozen.access_key), ANY)})
            return
        self._source_credentials[id(bottom)] = identity
        if identity.user:
            keys.users.add((identity.account, identity.user))
        elif not credentials.given_by_aws():
            self._passed_session(subject, identity, frozen, keys)

    def _account_of(self, credentials: ChainCredentials, key: str) -> str:
        """The account of a key, which AWS reports for ended sessions, too; any where it does not.

        Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetAccessKeyInfo.html
        """
        try:
            asks = credentials.get_frozen_credentials()
            response = self._client.call(Principal("", asks), "sts", "GetAccessKeyInfo", {"AccessKeyId": key})
        except AwsError:
            return ANY
        return str(response["Account"])

    def _passed_session(
        self, subject: str, identity: Identity, frozen: FrozenCredentials, keys: "_SigningKeys"
    ) -> None:
        """Where a session of a role was passed in: any identity that may assume the role may have created it."""
        if identity.federated:
            why = f"{subject} holds a session of {identity.arn}, which some user's key has taken"
            keys.suspect(why, {(identity.account, ANY)})
        elif identity.role and not identity.role.startswith(_RESERVED):
            users, why = self._users_trusted_by(identity, frozen)
            if users:
                keys.suspect(
                    f"{subject} holds a session of the role {identity.role} in account {identity.account}, and "
                    f"whose key created it is unknown{why}",
                    users,
                )

    def _users_trusted_by(
        self, identity: Identity, frozen: FrozenCredentials
    ) -> tuple[frozenset[UserId], str]:
        """The users that may have taken a role's session, and why they are many where the role was not read."""
        role = f"{identity.account}/{identity.role}"
        if role not in self._session_issuers:
            try:
                users, why = self._trusted_users(identity, frozen), ""
            except (AwsError, KeyError, ValueError, TypeError, AttributeError) as error:
                trusted = (
                    error.message if isinstance(error, AwsError) else "its trust policy cannot be understood"
                )
                return frozenset({(ANY, ANY)}), f" ({trusted})"
            with self._lock:
                self._session_issuers[role] = users, why
        return self._session_issuers[role]

    def _trusted_users(self, identity: Identity, frozen: FrozenCredentials) -> frozenset[UserId]:
        """Who gets into a role by a key, through other roles of its account, too; raises AwsError.

        Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
        """
        waiting, seen, users = [identity.role], set[str](), set[UserId]()
        while waiting:
            role = waiting.pop()
            if role in seen:
                continue
            seen.add(role)
            response = self._client.call(
                Principal(identity.account, frozen), "iam", "GetRole", {"RoleName": role}
            )
            document = json.loads(unquote(str(response["Role"]["AssumeRolePolicyDocument"])))
            for principal in _principals(document):
                account, kind, name = _parts(principal)
                if kind == "role" and name.startswith(_RESERVED):
                    continue
                if kind == "role" and account == identity.account:
                    waiting.append(name)
                elif kind == "role":
                    users.add((ANY, ANY))  # who gets into a role elsewhere cannot be read from here
                elif kind:
                    users.add((account, name))
        return frozenset(users)


def _principals(document: Mapping[str, Any]) -> Iterator[str]:
    statements = document["Statement"]
    for statement in statements if isinstance(statements, list) else [statements]:
        if statement["Effect"] != "Allow":
            continue
        if "Principal" not in statement:  # NotPrincipal: everybody else
            yield ANY
            continue
        principal = statement["Principal"]
        named = principal.get("AWS", ()) if isinstance(principal, dict) else principal
        yield from [named] if isinstance(named, str) else named


def _parts(principal: str) -> tuple[str, str, str]:
    """The account, what it is (user, role; empty for one that is no more) and the name of a principal."""
    if re.fullmatch(r"\d{12}", principal):
        return principal, "user", ANY
    kinds = "root|user|role|assumed-role|federated-user"
    match = re.fullmatch(rf"arn:[\w-]+:(?:iam|sts)::(\d{{12}}):({kinds})(?:/(.+))?", principal)
    if match:
        account, kind, rest = match[1], match[2], match[3] or ""
        if kind == "user":
            return account, "user", rest.rpartition("/")[2]
        if kind == "role":
            return account, "role", rest.rpartition("/")[2]
        if kind == "assumed-role":
            return account, "role", rest.partition("/")[0]
        return account, "user", ANY
    if re.fullmatch(r"A[A-Z]{3}[A-Z0-9]{12,}", principal):
        return "", "", ""  # the id of a user or role that was deleted: it lets nobody in
    return ANY, "user", ANY


class _SigningKeys:
    """What was learned so far."""

    def __init__(self) -> None:
        self.users: set[UserId] = set()
        self.keys: set[str] = set()
        self.suspects: set[UserId] = set()
        self.unknown: set[str] = set()

    def suspect(self, why: str, users: Iterable[UserId]) -> None:
        """Users that may be behind a source, and why nobody knows."""
        self.suspects |= set(users)
        self.unknown.add(why)
