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

from sparekey.aws.credential_errors import Link, Setup, explain
from sparekey.aws.errors import NoCredentialsError

ASSUMED = "assume-role"
# AWS itself gives these sessions out: no access key of a user is behind them.
_FROM_AWS = frozenset({"iam-role", "container-role", "sso", "assume-role-with-web-identity", "login"})
# They last until a person has to sign in again.
_SIGN_INS = frozenset({"sso", "login"})
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
_CONTAINER_HOSTS = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html
_INSTANCE_HOSTS = frozenset({"169.254.169.254", "fd00:ec2::254"})
_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class Frozen(msgspec.Struct, frozen=True):
    """An access key, its secret and its token at one moment."""

    access_key: str
    secret_key: str
    token: str | None = None

    def get_frozen_credentials(self) -> "Frozen":
        """Itself: it does not change."""
        return self


class ChainCredentials:
    """Credentials that botocore found; every failure is an AwsError that names the profile or variable."""

    def __init__(self, found: Any, setup: Setup, session: Session | None = None) -> None:
        self.setup = setup
        self._found = found
        self._session = session
        self.links, self.whole = _links(found)

    def get_frozen_credentials(self) -> Frozen:
        """The credentials of this moment; raises AwsError."""
        try:
            if self._refreshes():
                # A line break in a source's key would end up in a header that botocore sends.
                for link in self.links[:0:-1]:
                    self._checked(link)
            return self._checked(self._found)
        except Exception as error:  # noqa: BLE001  # botocore's providers raise whatever happens to them
            # Not `from error`: botocore's own error may quote what a helper printed.
            raise explain(error, self.setup, self._session) from None

    def frozen(self, link: Any) -> Frozen:
        """One link's credentials at this moment; raises AwsError."""
        try:
            return self._checked(link)
        except Exception as error:  # noqa: BLE001  # the same
            raise explain(error, self.setup, self._session) from None

    def ends(self) -> bool:
        """True where nothing renews them: a session that was passed in, or one that lasts as long as a sign-in."""
        return any(_ends(link) for link in self.links)

    def given_by_aws(self) -> bool:
        """True where AWS gave out the session at the bottom, and no user's key can have taken it."""
        method = str(getattr(self.links[-1], "method", ""))
        return method in _FROM_AWS and not _played(method, self.setup)

    def _refreshes(self) -> bool:
        asks = getattr(self._found, "refresh_needed", None)
        return len(self.links) > 1 and bool(asks and asks())

    def _checked(self, link: Any) -> Frozen:
        frozen = link.get_frozen_credentials()
        fields = (frozen.access_key, frozen.secret_key, frozen.token)
        for name, value in zip(_VARIABLES, fields, strict=True):
            if not _is_clean(value):
                raise NoCredentialsError(*self.setup.unclean(name, value, str(getattr(link, "method", ""))))
        return Frozen(frozen.access_key, frozen.secret_key, frozen.token or None)


def _is_clean(value: object) -> bool:
    """False for what a header cannot hold: control characters, blanks, anything that is not ASCII."""
    if value is None:
        return True
    return isinstance(value, str) and value.isascii() and value.isprintable() and " " not in value


def _links(found: Any) -> tuple[list[Any], bool]:
    """The credentials and those that they were taken with; False where botocore does not show them all."""
    links = [found]
    while str(getattr(links[-1], "method", "")) == ASSUMED:
        source = _source(links[-1])
        if source is None or any(source is link for link in links):
            return links, False
        links.append(source)
    return links, True


def _source(found: Any) -> Any:
    """The credentials by which a profile's role is assumed; None where botocore no longer keeps them there."""
    refresh = getattr(found, "_refresh_using", None)
    refresh = getattr(refresh, "_refresh", refresh)  # what asks for an MFA code wraps it
    return getattr(getattr(refresh, "__self__", None), "_source_credentials", None)


def _ends(link: Any) -> bool:
    method = str(getattr(link, "method", ""))
    if not isinstance(link, RefreshableCredentials):
        return bool(getattr(link, "token", None))
    if method == ASSUMED:
        return hasattr(getattr(link, "_refresh_using", None), "_refresh")  # an MFA code is good once
    return method in _SIGN_INS or method == "env"  # nobody sets the variables again


def _played(method: str, setup: Setup) -> bool:
    """True where the endpoint is not AWS's own: a program may play it, by whatever key it has."""
    if method == "container-role" and not setup.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return not _is_at(setup.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", ""), _CONTAINER_HOSTS)
    if method == "iam-role":
        named = [setup.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "")]
        named += [link.get("ec2_metadata_service_endpoint") for link in setup.links]
        return not all(_is_at(endpoint, _INSTANCE_HOSTS) for endpoint in named if endpoint)
    return False


def _is_at(address: str, hosts: frozenset[str]) -> bool:
    try:
        return urlsplit(address).hostname in hosts
    except ValueError:
        return False


def resolve(session: Session, environ: Mapping[str, str] | None = None) -> ChainCredentials:
    """Find a session's credentials by botocore's chain; asks AWS nothing. Raises AwsError."""
    setup = setup_of(session, environ)
    try:
        _ask_at_a_terminal(session)
        found = session.get_credentials()
    except Exception as error:  # noqa: BLE001  # botocore's providers raise whatever happens to them
        raise explain(error, setup, session) from None
    if found is None:
        of = f" for {setup.subject}" if setup.named else ""
        raise NoCredentialsError(f"no AWS credentials were found{of}")
    setup = msgspec.structs.replace(setup, method=str(getattr(found, "method", "")))
    return ChainCredentials(found, setup, session)


def _ask_at_a_terminal(session: Session) -> None:
    """Let an MFA code be asked for only where somebody can answer: a pipe that says nothing would wait for ever."""
    resolver = session.get_component("credential_provider")
    for provider in getattr(resolver, "providers", ()):
        if provider.METHOD == ASSUMED:
            provider._prompter = _mfa_code  # botocore offers no other way


def _mfa_code(prompt: str) -> str:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        if not (sys.stdin and sys.stdin.isatty()):
            raise EOFError from None
    return getpass(prompt)


def setup_of(session: Session, environ: Mapping[str, str] | None = None, profile: str = "") -> Setup:
    """What a session's configuration names: its profile (or another) and those that it leans on, top first."""
    environ = os.environ if environ is None else environ
    try:
        named = profile or session.profile or ""
        profiles: Mapping[str, Mapping[str, Any]] = session.full_config.get("profiles", {})
    except Exception:  # noqa: BLE001  # whatever it is, resolving the credentials raises it again
        return Setup(profile or environ.get("AWS_PROFILE", ""), (), environ)
    links: list[Link] = []
    name = named or "default"
    while name in profiles and name not in {link.profile for link in links}:
        links.append(Link(name, profiles[name]))
        name = str(profiles[name].get("source_profile", ""))
    return Setup(named, tuple(links), environ)


class Profiles:
    """The credentials of the profiles that an accounts file names: each is resolved once, when it is needed.

    `base` is a session that reads the same configuration.
    """

    def __init__(self, open_session: Callable[[str], Session], base: Session) -> None:
        self._open = open_session
        self._base = base
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._found: dict[str, ChainCredentials] = {}
        self._named: dict[str, Setup] = {}
        self._keys = frozenset[str]()

    def find(self, profile: str) -> ChainCredentials:
        """A profile's credentials; raises AwsError."""
        with self._lock:
            lock = self._locks.setdefault(profile, threading.Lock())
        with lock:
            if profile not in self._found:
                try:
                    session = self._open(profile)
                except Exception as error:  # noqa: BLE001  # a configuration that cannot be parsed, among others
                    raise explain(error, Setup(profile, (), os.environ)) from None
                self._found[profile] = resolve(session)
            return self._found[profile]

    def used(self) -> tuple[ChainCredentials, ...]:
        """The credentials of every profile that was resolved so far."""
        return tuple(found for _, found in sorted(dict(self._found).items()))

    def name(self, profiles: frozenset[str], keys: frozenset[str] = frozenset()) -> None:
        """Note profiles whose static keys are protected, used now or not, and keys that are."""
        self._keys |= keys
        for profile in profiles - self._named.keys():
            self._named[profile] = setup_of(self._base, profile=profile)

    def end(self) -> bool:
        """True where nothing renews the credentials of one of the profiles named or used."""
        used = any(found.ends() for found in self.used())
        return used or any(setup.ends() for setup in self._named.values())

    def static_keys(self) -> frozenset[str]:
        """The ids of the access keys that stand in the profiles named, and in those that they lean on."""
        return self._keys | {key for setup in self._named.values() for key in setup.static_keys()}
