"""Sessions in other accounts, by a role or a profile: taken once, renewed before they end."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from botocore.credentials import ReadOnlyCredentials

from sparekey.aws.accounts import Target
from sparekey.aws.client import AwsClient, Credentials, Principal
from sparekey.aws.credential_chain import ProfileStore
from sparekey.aws.errors import (
    AwsError,
    DeniedError,
    FailedServiceError,
    MalformedResponseError,
    NotEnteredError,
    ThrottledError,
    UnreachableError,
)
from sparekey.aws.signers import SigningIdentities
from sparekey.clock import Clock

_SESSION = "sparekey"
_RENEW_BEFORE = timedelta(minutes=5)  # before a session ends, another is taken
_RETRY_AFTER = timedelta(minutes=1)
_TEMPORARY_ERRORS = (MalformedResponseError, FailedServiceError, ThrottledError, UnreachableError)


class SessionCredentials:
    """A session's credentials, taken when they are first asked for and again before they end.

    An account that may not be entered is not tried again for a minute: every call in it would ask.
    """

    def __init__(self, clock: Clock, take: Callable[[], Mapping[str, Any]]) -> None:
        self._clock = clock
        self._request_session = take
        self._lock = threading.Lock()
        self._current: tuple[ReadOnlyCredentials, datetime] | None = None
        self._refusal: tuple[NotEnteredError, datetime] | None = None

    def discard(self, used: str = "") -> None:
        """Forget the session; where a key is named, only if it is the session's: a newer one is good."""
        with self._lock:
            if self._current and used in ("", self._current[0].access_key):
                self._current = None

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """The credentials of this moment; raises AwsError."""
        with self._lock:
            if self._refusal and self._clock.now() < self._refusal[1] + _RETRY_AFTER:
                raise self._refusal[0]
            if self._current is None or self._clock.now() >= self._current[1] - _RENEW_BEFORE:
                try:
                    response = self._request_session()["Credentials"]
                except NotEnteredError as error:
                    self._refusal = error, self._clock.now()
                    raise
                keys = ReadOnlyCredentials(
                    response["AccessKeyId"], response["SecretAccessKey"], response["SessionToken"]
                )
                self._current = keys, response["Expiration"]
            return self._current[0]


def by_role(
    client: AwsClient, base: Principal, target: Target, role: str, *, shared: bool = False
) -> SessionCredentials:
    """The credentials of a role, assumed by the base; one that is `shared` is on the way to several accounts."""
    params: dict[str, Any] = {"RoleArn": role, "RoleSessionName": _SESSION}
    if target.external_id:
        params["ExternalId"] = target.external_id
    if target.session_duration:
        params["DurationSeconds"] = target.session_duration

    def take() -> Mapping[str, Any]:
        try:
            return client.call(base, "sts", "AssumeRole", params)
        except AwsError as error:
            place = "the role" if shared else f"account {target.id} cannot be entered by"
            why = f"{place} {role}{' cannot be assumed' if shared else ''}: {error.message}"
            raise _not_entered_error(error, why, "sts:AssumeRole") from error

    return SessionCredentials(client.clock, take)


def _not_entered_error(error: AwsError, why: str, action: str) -> AwsError:
    """A transient failure is left as it is, so that it is retried like any other call."""
    kind = type(error) if isinstance(error, _TEMPORARY_ERRORS) else NotEnteredError
    # A wrong clock or a policy of the organization is no matter of the role and its trust.
    plain = isinstance(error, DeniedError) and error.hint == DeniedError.default_hint
    hint = "" if plain else error.hint
    return kind(why, hint, code=error.code, action=action, request_id=error.request_id)


class ProfileCredentials:
    """A profile's credentials, of which it is made sure once that they are the account's."""

    def __init__(self, target: Target, profiles: ProfileStore, signers: SigningIdentities) -> None:
        self._target = target
        self._profiles = profiles
        self._signers = signers
        self._lock = threading.Lock()
        self._checked: Credentials | None = None

    def get_frozen_credentials(self) -> Any:
        """The credentials of this moment; raises AwsError."""
        with self._lock:
            if self._checked is None:
                self._checked = self._resolve()
            return self._checked.get_frozen_credentials()

    def _resolve(self) -> Credentials:
        profile, account = self._target.profile, self._target.id
        try:
            credentials = self._profiles.credentials(profile)
            owner = self._signers.identity(credentials.get_frozen_credentials()).account
        except AwsError as error:
            why = f"account {account} cannot be entered by the profile {profile}: {error.message}"
            raise _not_entered_error(error, why, "sts:GetCallerIdentity") from error
        if owner != account and not self._target.roles:
            raise NotEnteredError(f"the profile {profile} is of account {owner}, not of {account}")
        return credentials


class AccountSessions:
    """The credentials that sign in each account, kept for as long as the process: a session is taken once.

    Thread-safe. Accounts that are entered through the same role share its session.
    """

    def __init__(self, client: AwsClient, profiles: ProfileStore, signers: SigningIdentities) -> None:
        self._client = client
        self._profiles = profiles
        self._signers = signers
        self._lock = threading.Lock()
        self._current: dict[Target, Credentials] = {}
        self._intermediate: dict[tuple[tuple[str, ...], str, int], Credentials] = {}

    def credentials_for(self, base: Principal, target: Target) -> Credentials:
        """Whose credentials sign in an account: nothing is asked of AWS yet."""
        with self._lock:
            if target not in self._current:
                self._current[target] = self._role_credentials(base, target)
            return self._current[target]

    def forget(self, target: Target) -> None:
        """Drop the session of an account that is done with; the next use takes another."""
        with self._lock:
            kept = self._current.pop(target, None)
        if isinstance(kept, SessionCredentials):
            kept.discard()

    def _role_credentials(self, base: Principal, target: Target) -> Credentials:
        credentials: Credentials = base.credentials
        if target.profile:
            credentials = ProfileCredentials(target, self._profiles, self._signers)
        for at, role in enumerate(target.roles, 1):
            by = Principal(base.account, credentials)
            if at == len(target.roles) or target.profile:
                credentials = by_role(self._client, by, target, role)
                continue
            key = (target.roles[:at], target.external_id, target.session_duration)
            if key not in self._intermediate:
                self._intermediate[key] = by_role(self._client, by, target, role, shared=True)
            credentials = self._intermediate[key]
        return credentials
