"""Who signs for us: the users and keys behind every credential source, each in its own account.

A session of a role that was passed in does not tell whose key took it. Then the role's trust policy says whom it
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

from sparekey.aws.client import Client, Principal
from sparekey.aws.credential_chain import ChainCredentials, Frozen
from sparekey.aws.errors import AwsError
from sparekey.model import ANY, Caller

# An identity is asked for again before a write if it was asked for longer ago.
_FRESH = timedelta(minutes=1)
# Only IAM Identity Center gets into these: https://docs.aws.amazon.com/singlesignon/latest/userguide/using-service-linked-roles.html
_RESERVED = "AWSReservedSSO_"
UserId = tuple[str, str]


class Identity(msgspec.Struct, frozen=True):
    """Who AWS says that somebody is."""

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


class _Asked(msgspec.Struct, frozen=True):
    identity: Identity
    at: datetime


class Signers:
    """Asks AWS who the credential sources are; thread-safe."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: dict[str, _Asked] = {}
        self._bottoms: dict[int, Identity] = {}
        self._minters: dict[str, tuple[frozenset[UserId], str]] = {}

    def identity(self, frozen: Frozen, *, again: bool = False) -> Identity:
        """Who somebody is: of a key that was asked about before, what AWS said then. Raises AwsError.

        With `again` AWS is asked anew after a minute. No permission is needed.
        Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
        """
        known = self._known.get(frozen.access_key)
        now = self._client.clock.now()
        if known and not (again and abs(now - known.at) > _FRESH):
            return known.identity
        try:
            told = self._client.call(Principal("", frozen), "sts", "GetCallerIdentity")
        except AwsError:
            if known:
                return known.identity  # a session that has ended meanwhile was this identity's all the same
            raise
        identity = Identity(str(told["Arn"]), str(told["Account"]))
        with self._lock:
            self._known[frozen.access_key] = _Asked(identity, now)
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
        found = _Found()
        found.keys |= set(static)
        for credentials in (base, *others):
            self._behind(credentials, found, again=again)
        return Caller(
            account=top.account,
            arn=top.arn,
            users=frozenset(found.users),
            keys=frozenset(found.keys),
            suspects=frozenset(found.suspects),
            unknown=tuple(sorted(found.unknown)),
        )

    def _behind(self, credentials: ChainCredentials, found: "_Found", *, again: bool) -> None:
        """Note the user and the keys behind one set of credentials: whoever is at the bottom of the chain."""
        subject = credentials.setup.subject
        found.keys |= set(credentials.setup.static_keys())
        if not credentials.whole:
            found.suspect(f"the credentials by which {subject} takes its role are not known", {(ANY, ANY)})
            return
        bottom = credentials.links[-1]
        try:
            frozen = credentials.frozen(bottom)
        except AwsError as error:
            known = self._bottoms.get(id(bottom))
            found.unknown.add(f"the credentials behind {subject} could not be asked: {error.message}")
            if known and known.user:
                found.users.add((known.account, known.user))
            elif not credentials.given_by_aws():
                found.suspects.add((ANY, ANY))  # a role's session says nothing of whose key took it
            return
        long_term = not frozen.token
        if long_term:
            found.keys.add(frozen.access_key)
        try:
            identity = self.identity(frozen, again=again)
        except AwsError as error:
            why = f"AWS did not say who signs for {subject}: {error.message}"
            if long_term or credentials.given_by_aws():
                found.unknown.add(why)  # the key is protected by its id, whoever has it
            else:
                found.suspect(why, {(self._account_of(credentials, frozen.access_key), ANY)})
            return
        self._bottoms[id(bottom)] = identity
        if identity.user:
            found.users.add((identity.account, identity.user))
        elif not credentials.given_by_aws():
            self._passed_in(subject, identity, frozen, found)

    def _account_of(self, credentials: ChainCredentials, key: str) -> str:
        """The account of a key, which AWS tells of sessions that have ended, too; any where it does not.

        Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetAccessKeyInfo.html
        """
        try:
            asks = credentials.get_frozen_credentials()
            told = self._client.call(Principal("", asks), "sts", "GetAccessKeyInfo", {"AccessKeyId": key})
        except AwsError:
            return ANY
        return str(told["Account"])

    def _passed_in(self, subject: str, identity: Identity, frozen: Frozen, found: "_Found") -> None:
        """Where a session of a role was passed in: whoever the role lets in may have taken it."""
        if identity.federated:
            why = f"{subject} holds a session of {identity.arn}, which some user's key has taken"
            found.suspect(why, {(identity.account, ANY)})
        elif identity.role and not identity.role.startswith(_RESERVED):
            users, why = self._who_may_take(identity, frozen)
            if users:
                found.suspect(
                    f"{subject} holds a session of the role {identity.role} in account {identity.account}, and "
                    f"nothing says whose key took it{why}",
                    users,
                )

    def _who_may_take(self, identity: Identity, frozen: Frozen) -> tuple[frozenset[UserId], str]:
        """The users that may have taken a role's session, and why they are many where the role was not read."""
        role = f"{identity.account}/{identity.role}"
        if role not in self._minters:
            try:
                users, why = self._trusted(identity, frozen), ""
            except (AwsError, KeyError, ValueError, TypeError, AttributeError) as error:
                told = (
                    error.message if isinstance(error, AwsError) else "its trust policy cannot be understood"
                )
                return frozenset({(ANY, ANY)}), f" ({told})"
            with self._lock:
                self._minters[role] = users, why
        return self._minters[role]

    def _trusted(self, identity: Identity, frozen: Frozen) -> frozenset[UserId]:
        """Who gets into a role by a key, through other roles of its account, too; raises AwsError.

        Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
        """
        waiting, seen, users = [identity.role], set[str](), set[UserId]()
        while waiting:
            role = waiting.pop()
            if role in seen:
                continue
            seen.add(role)
            told = self._client.call(
                Principal(identity.account, frozen), "iam", "GetRole", {"RoleName": role}
            )
            document = json.loads(unquote(str(told["Role"]["AssumeRolePolicyDocument"])))
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


class _Found:
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
