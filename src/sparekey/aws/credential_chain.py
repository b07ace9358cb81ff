"""Credentials as botocore's chain finds them, with the source of each and one sentence for each failure.

A profile may take its role by the credentials of another profile, and so on: `ChainCredentials.links` lists the
credentials that sign on the way, the last of them the one at the bottom.
"""

import os
import sys
import threading
from collections.abc import Callable, Mapping
from getpass import getpass
from typing import Any
from urllib.parse import urlsplit

import msgspec
from botocore.credentials import RefreshableCredentials
from botocore.session import Session

from sparekey.aws.credential_errors import ChainLink, CredentialSetup, explain
from sparekey.aws.errors import NoCredentialsError

ASSUME_ROLE_METHOD = "assume-role"
# AWS itself gives these sessions out: no access key of a user is behind them.
_GIVEN_BY_AWS = frozenset({"iam-role", "container-role", "sso", "assume-role-with-web-identity", "login"})
# They last until a person has to sign in again.
_SIGN_INS = frozenset({"sso", "login"})
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
_CONTAINER_HOSTS = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html
_INSTANCE_HOSTS = frozenset({"169.254.169.254", "fd00:ec2::254"})
_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class FrozenCredentials(msgspec.Struct, frozen=True):
    """An access key, its secret and its token at one moment."""

    access_key: str
    secret_key: str
    token: str | None = None

    def get_frozen_credentials(self) -> "FrozenCredentials":
        """Itself: it does not change."""
        return self


class ChainCredentials:
    """Credentials that botocore found; every failure is an AwsError that names the profile or variable."""

    def __init__(self, resolved: Any, setup: CredentialSetup, session: Session | None = None) -> None:
        self.setup = setup
        self._resolved = resolved
        self._session = session
        self.links, self.complete = _links(resolved)

    def get_frozen_credentials(self) -> FrozenCredentials:
        """The credentials of this moment; raises AwsError."""
        try:
            if self._refreshes():
                # A line break in a source's key would end up in a header that botocore sends.
                for link in self.links[:0:-1]:
                    self._checked(link)
            return self._checked(self._resolved)
        except Exception as error:  # noqa: BLE001  # botocore's providers raise whatever happens to them
            # Not `from error`: botocore's own error may quote what a helper printed.
            raise explain(error, self.setup, self._session) from None

    def frozen(self, link: Any) -> FrozenCredentials:
        """One link's credentials at this moment; raises AwsError."""
        try:
            return self._checked(link)
        except Exception as error:  # noqa: BLE001  # the same
            raise explain(error, self.setup, self._session) from None

    def expires_at(self) -> bool:
        """True where nothing renews them: a session that was passed in, or one that lasts as long as a sign-in."""
        return any(_expires_at(link) for link in self.links)

    def given_by_aws(self) -> bool:
        """True where AWS gave out the session at the bottom, and no user's key can have taken it."""
        method = str(getattr(self.links[-1], "method", ""))
        return method in _GIVEN_BY_AWS and not _played_provider(method, self.setup)

    def _refreshes(self) -> bool:
        asks = getattr(self._resolved, "refresh_needed", None)
        return len(self.links) > 1 and bool(asks and asks())

    def _checked(self, link: Any) -> FrozenCredentials:
        frozen = link.get_frozen_credentials()
        fields = (frozen.access_key, frozen.secret_key, frozen.token)
        for name, value in zip(_VARIABLES, fields, strict=True):
            if not _is_clean(value):
                raise NoCredentialsError(*self.setup.unclean(name, value, str(getattr(link, "method", ""))))
        return FrozenCredentials(frozen.access_key, frozen.secret_key, frozen.token or None)


def _is_clean(value: object) -> bool:
    """False for what a header cannot hold: control characters, blanks, anything that is not ASCII."""
    if value is None:
        return True
    return isinstance(value, str) and value.isascii() and value.isprintable() and " " not in value


def _links(resolved: Any) -> tuple[list[Any], bool]:
    """The credentials and those that they were taken with; False where botocore does not show them all."""
    links = [resolved]
    while str(getattr(links[-1], "method", "")) == ASSUME_ROLE_METHOD:
        source = _credential_source(links[-1])
        if source is None or any(source is link for link in links):
            return links, False
        links.append(source)
    return links, True


def _credential_source(resolved: Any) -> Any:
    """The credentials by which a profile's role is assumed; None where botocore no longer keeps them there."""
    refresh = getattr(resolved, "_refresh_using", None)
    refresh = getattr(refresh, "_refresh", refresh)  # what asks for an MFA code wraps it
    return getattr(getattr(refresh, "__self__", None), "_source_credentials", None)


def _expires_at(link: Any) -> bool:
    method = str(getattr(link, "method", ""))
    if not isinstance(link, RefreshableCredentials):
        return bool(getattr(link, "token", None))
    if method == ASSUME_ROLE_METHOD:
        return hasattr(getattr(link, "_refresh_using", None), "_refresh")  # an MFA code is good once
    return method in _SIGN_INS or method == "env"  # nobody sets the variables again


def _played_provider(method: str, setup: CredentialSetup) -> bool:
    """True where the endpoint is not AWS's own: a program may play it, by whatever key it has."""
    if method == "container-role" and not setup.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return not _is_host(setup.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", ""), _CONTAINER_HOSTS)
    if method == "iam-role":
        named = [setup.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "")]
        named += [link.get("ec2_metadata_service_endpoint") for link in setup.links]
        return not all(_is_host(endpoint, _INSTANCE_HOSTS) for endpoint in named if endpoint)
    return False


def _is_host(address: str, hosts: frozenset[str]) -> bool:
    try:
        return urlsplit(address).hostname in hosts
    except ValueError:
        return False


def resolve(session: Session, environ: Mapping[str, str] | None = None) -> ChainCredentials:
    """Find a session's credentials by botocore's chain; asks AWS nothing. Raises AwsError."""
    setup = setup_of(session, environ)
    try:
        _prompt_on_terminal(session)
        resolved = session.get_credentials()
    except Exception as error:  # noqa: BLE001  # botocore's providers raise whatever happens to them
        raise explain(error, setup, session) from None
    if resolved is None:
        subject = f" for {setup.subject}" if setup.named else ""
        raise NoCredentialsError(f"no AWS credentials were found{subject}")
    setup = msgspec.structs.replace(setup, method=str(getattr(resolved, "method", "")))
    return ChainCredentials(resolved, setup, session)


def _prompt_on_terminal(session: Session) -> None:
    """Let an MFA code be asked for only where somebody can answer: a pipe that says nothing would wait for ever."""
    resolver = session.get_component("credential_provider")
    for provider in getattr(resolver, "providers", ()):
        if provider.METHOD == ASSUME_ROLE_METHOD:
            provider._prompter = _mfa_code  # botocore offers no other way


def _mfa_code(prompt: str) -> str:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        if not (sys.stdin and sys.stdin.isatty()):
            raise EOFError from None
    return getpass(prompt)


def setup_of(
    session: Session, environ: Mapping[str, str] | None = None, profile: str = ""
) -> CredentialSetup:
    """What a session's configuration names: its profile (or another) and those that it leans on, top first."""
    environ = os.environ if environ is None else environ
    try:
        named = profile or session.profile or ""
        profiles: Mapping[str, Mapping[str, Any]] = session.full_config.get("profiles", {})
    except Exception:  # noqa: BLE001  # whatever it is, resolving the credentials raises it again
        return CredentialSetup(profile or environ.get("AWS_PROFILE", ""), (), environ)
    links: list[ChainLink] = []
    name = named or "default"
    while name in profiles and name not in {link.profile for link in links}:
        links.append(ChainLink(name, profiles[name]))
        name = str(profiles[name].get("source_profile", ""))
    return CredentialSetup(named, tuple(links), environ)


class ProfileStore:
    """The credentials of the profiles that an accounts file names: each is resolved once, when it is needed.

    `base` is a session that reads the same configuration.
    """

    def __init__(self, open_session: Callable[[str], Session], base: Session) -> None:
        self._open = open_session
        self._base = base
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._by_name: dict[str, ChainCredentials] = {}
        self._named_profiles: dict[str, CredentialSetup] = {}
        self._keys = frozenset[str]()

    def credentials(self, profile: str) -> ChainCredentials:
        """A profile's credentials; raises AwsError."""
        with self._lock:
            lock = self._locks.setdefault(profile, threading.Lock())
        with lock:
            if profile not in self._by_name:
                try:
                    session = self._open(profile)
                except Exception as error:  # noqa: BLE001  # a configuration that cannot be parsed, among others
                    raise explain(error, CredentialSetup(profile, (), os.environ)) from None
                self._by_name[profile] = resolve(session)
            return self._by_name[profile]

    def used(self) -> tuple[ChainCredentials, ...]:
        """The credentials of every profile that was resolved so far."""
        return tuple(credentials for _, credentials in sorted(dict(self._by_name).items()))

    def name(self, profiles: frozenset[str], keys: frozenset[str] = frozenset()) -> None:
        """Note profiles whose static keys are protected, used now or not, and keys that are."""
        self._keys |= keys
        for profile in profiles - self._named_profiles.keys():
            self._named_profiles[profile] = setup_of(self._base, profile=profile)

    def expires_at(self) -> bool:
        """True where nothing renews the credentials of one of the profiles named or used."""
        expires = any(found.expires_at() for found in self.used())
        return expires or any(setup.expires_at() for setup in self._named_profiles.values())

    def static_keys(self) -> frozenset[str]:
        """The ids of the access keys that stand in the profiles named, and in those that they lean on."""
        return self._keys | {key for setup in self._named_profiles.values() for key in setup.static_keys()}
