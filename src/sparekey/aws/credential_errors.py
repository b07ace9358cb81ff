"""Every failure of botocore's credential chain in one sentence that names the profile or the variable.

A `credential_process` helper's output is never quoted: it may hold a secret.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from botocore import exceptions as boto
from botocore.compat import compat_shell_split
from botocore.session import Session

from sparekey.aws.errors import (
    AwsError,
    ExpiredCredentialsError,
    NoCredentialsError,
    error_from_botocore,
    plain_error,
)

_NONE = "no usable AWS credentials"
_HELPER_HINT = (
    "Run the helper yourself: it must print the JSON that `credential_process` requires, and exit with 0."
)
_PROCESS_KEYS = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
_ENV_HINT = "Set the AWS_* variables again, or unset them and use a profile."


class ChainLink(msgspec.Struct, frozen=True):
    """One profile on the way to the credentials."""

    profile: str
    config: Mapping[str, Any]

    def get(self, name: str) -> str:
        """One of its settings, empty where it is not set."""
        value = self.config.get(name, "")
        return value if isinstance(value, str) else ""

    @property
    def helper(self) -> str:
        """The program that `credential_process` runs, without its arguments, which may hold a secret."""
        try:
            words = compat_shell_split(self.get("credential_process"))
        except ValueError:
            words = self.get("credential_process").split()
        return str(words[0]) if words else ""

    @property
    def runs(self) -> bool:
        """False where `credential_process` is not written as a command."""
        try:
            return bool(compat_shell_split(self.get("credential_process")))
        except ValueError:
            return False


class CredentialSetup(msgspec.Struct, frozen=True):
    """Where credentials come from: the profile named (empty for none), its chain of profiles, the environment.

    `method` is botocore's word for the provider that had them, where that is known.
    """

    named: str
    links: tuple[ChainLink, ...]
    environ: Mapping[str, str]
    method: str = ""

    @property
    def subject(self) -> str:
        """The profile, or what stands in for one."""
        if self.method == "env":
            return "the environment"
        if self.named:
            return f"the profile {self.named!r}"
        return "the default profile" if self.links else "the environment"

    def description(self, *settings: str) -> ChainLink | None:
        """The first profile of the chain that has one of the settings."""
        return next((link for link in self.links if any(name in link.config for name in settings)), None)

    def expires_at(self) -> bool:
        """True where a profile of the chain lasts until somebody signs in or types a code again."""
        return (
            self.description("sso_account_id", "login_session", "aws_session_token", "mfa_serial") is not None
        )

    def static_keys(self) -> Iterable[str]:
        """The access key ids that stand in the chain of profiles."""
        return [key for link in self.links if (key := link.get("aws_access_key_id").strip())]

    def unclean(self, name: str, value: object, method: str) -> tuple[str, str]:
        """The sentence and the hint for a credential that cannot be sent as it is."""
        what = {
            "AWS_ACCESS_KEY_ID": "access key id",
            "AWS_SECRET_ACCESS_KEY": "secret access key",
            "AWS_SESSION_TOKEN": "session token",
        }[name]
        text = value if isinstance(value, str) else ""
        held = "a line break" if "\n" in text or "\r" in text else _unusable_in(text)
        where, hint = (
            f"of {self.subject}",
            "Write it again without it; an editor for text shows such characters.",
        )
        process = self.description("credential_process")
        if method == "env":
            where, hint = f"in {name}", f"Set {name} again, without what follows the value."
        elif method == "custom-process" and process:
            where, hint = _helper_text(process), _HELPER_HINT
        return f"the {what} {where} holds {held}: nothing was sent", hint


def _unusable_in(text: str) -> str:
    if not text:
        return "something that is not text"
    if not text.isascii():
        return "a character that is not ASCII"
    return "white space" if text.isprintable() else "a control character"


def _helper_text(link: ChainLink) -> str:
    return f"of the credential helper {link.helper} (profile {link.profile!r})"


def explain(error: Exception, setup: CredentialSetup, session: Session | None = None) -> AwsError:
    """The typed error for what a credential provider raised."""
    if isinstance(error, AwsError):
        return error
    if isinstance(error, EOFError):
        return _no_terminal(setup)
    for kinds, sentence in _EXPLANATIONS:
        if isinstance(error, kinds):
            return sentence(error, setup)
    return (bad_setting(session, error) if session is not None else None) or _unknown_error(error, setup)


def _no_terminal(setup: CredentialSetup) -> AwsError:
    link = setup.description("mfa_serial")
    device = f" ({link.get('mfa_serial')} of the profile {link.profile!r})" if link else ""
    return NoCredentialsError(
        f"{_NONE}: {setup.subject} asks for an MFA code{device}, and there is no terminal to ask at",
        "Run it at a terminal, or take a session beforehand and name its profile.",
    )


def _profile_missing(error: Exception, _setup: CredentialSetup) -> AwsError:
    return NoCredentialsError(
        f"{_NONE}: {plain_error(error)}", "`aws configure list-profiles` lists those there are."
    )


def _partial_credentials(error: Exception, setup: CredentialSetup) -> AwsError:
    details: Mapping[str, object] = getattr(error, "kwargs", {})
    if details.get("provider") == "env":
        return NoCredentialsError(f"{_NONE}: {details.get('cred_var')} is not set", _ENV_HINT)
    return NoCredentialsError(
        f"{_NONE}: {details.get('cred_var')} is missing in {setup.subject}{_relies_on(setup)}",
        "Add it there, or name another profile (`--profile NAME`).",
    )


def _relies_on(setup: CredentialSetup) -> str:
    below = [repr(link.profile) for link in setup.links[1:]]
    return f" or a profile that it leans on ({', '.join(below)})" if below else ""


def _retrieval_error(error: Exception, setup: CredentialSetup) -> AwsError:
    details: Mapping[str, object] = getattr(error, "kwargs", {})
    provider, why = str(details.get("provider", "")), str(details.get("error_msg", ""))
    if provider == "custom-process":
        return _helper_failed(why, setup)
    if provider == "container-role":
        status = re.search(r"Received non 200 response (\d{3})", why)
        return _container_error(
            f"it answered {status[1]}" if status else "it gave no answer that can be used", setup
        )
    return NoCredentialsError(f"{_NONE}: {setup.subject}: {provider} gave none")


def _container_error(problem: str, setup: CredentialSetup) -> AwsError:
    name = _container_variable(setup)
    return NoCredentialsError(
        f"{_NONE}: the container's endpoint ({name}) was asked in vain: {problem}",
        f"Check {name}, and AWS_CONTAINER_AUTHORIZATION_TOKEN where it asks for one.",
    )


def _container_variable(setup: CredentialSetup) -> str:
    """The variable that names the container's endpoint; empty where neither does."""
    names = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
    return next((name for name in names if name in setup.environ), "")


def _helper_failed(why: str, setup: CredentialSetup) -> AwsError:
    missing = re.search(r"^Missing required key in response: '(\w+)'$", why)
    problem = "ended with an error (what it printed is not shown: it may hold a secret)"
    if why.startswith("Unsupported version"):
        problem = "printed no `Version` 1"
    elif missing and missing[1] in _PROCESS_KEYS:
        problem = f"printed no {missing[1]}"
    return _helper_error(problem, setup)


def _helper_error(problem: str, setup: CredentialSetup) -> AwsError:
    link = setup.description("credential_process")
    helper = (
        f"the helper {link.helper or 'without a name'} of the profile {link.profile!r}"
        if link
        else "a helper"
    )
    return NoCredentialsError(f"{_NONE}: {helper} (credential_process) {problem}", _HELPER_HINT)


def _file_error(error: Exception, setup: CredentialSetup) -> AwsError:
    """A program or a file on the way is not there, or may not be read."""
    why = getattr(error, "strerror", None) or type(error).__name__
    name = getattr(error, "filename", None)
    name = os.fsdecode(name) if isinstance(name, str | bytes) else ""
    for link in setup.links:
        if name and name == link.helper:
            return _helper_error(f"cannot be run: {why}", setup)
        if name and name == link.get("web_identity_token_file"):
            file = f"the web identity token file {name} of the profile {link.profile!r}"
            return NoCredentialsError(
                f"{_NONE}: {file} cannot be read: {why}", "Check web_identity_token_file."
            )
    for variable, what in _FILES.items():
        if name and setup.environ.get(variable) == name:
            return NoCredentialsError(
                f"{_NONE}: {what} {name} ({variable}) cannot be read: {why}", f"Check {variable}."
            )
    file = name or setup.subject
    return NoCredentialsError(f"{_NONE}: {file} cannot be read: {why}")


_FILES = {
    "AWS_WEB_IDENTITY_TOKEN_FILE": "the web identity token file",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "the container's token file",
    "AWS_CREDENTIAL_FILE": "the credential file",
    "AWS_CONFIG_FILE": "the configuration file",
    "AWS_SHARED_CREDENTIALS_FILE": "the credentials file",
}


def _not_found(error: Exception, setup: CredentialSetup) -> AwsError:
    path = str(getattr(error, "kwargs", {}).get("path", ""))
    missing = FileNotFoundError(2, "No such file or directory", str(Path(path).expanduser()))
    files = {name: str(Path(setup.environ[name]).expanduser()) for name in _FILES if name in setup.environ}
    environ = {**setup.environ, **files}
    return _file_error(missing, msgspec.structs.replace(setup, environ=environ))


def _sso_error(error: Exception, setup: CredentialSetup) -> AwsError:
    link = setup.description("sso_session", "sso_start_url", "sso_account_id")
    name = link.profile if link else setup.named
    why = plain_error(error)
    return ExpiredCredentialsError(
        f"the sign-in has ended ({setup.subject}): {why}",
        f"Sign in again: `aws sso login{_with_profile(name)}`, then repeat the command.",
    )


def _login_error(error: Exception, setup: CredentialSetup) -> AwsError:
    link = setup.description("login_session")
    name = link.profile if link else setup.named
    hint = f"Sign in again: `aws login{_with_profile(name)}`, then repeat the command."
    if isinstance(error, boto.LoginInsufficientPermissions):
        return NoCredentialsError(
            f"{_NONE}: {setup.subject} may not sign in: {plain_error(error)}",
            "The identity needs the managed policy SignInLocalDevelopmentAccess; then `aws login` again.",
        )
    return ExpiredCredentialsError(f"the sign-in has ended ({setup.subject}): {plain_error(error)}", hint)


def _with_profile(name: str) -> str:
    return "" if name in ("", "default") else f" --profile {name}"


def _missing_dependency(_error: Exception, setup: CredentialSetup) -> AwsError:
    what = (
        "was made by `aws login`, which" if setup.description("login_session") else "leans on something that"
    )
    return NoCredentialsError(
        f"{_NONE}: {setup.subject} {what} needs a package that is not installed (botocore[crt])",
        "pip install 'sparekey[crt]'",
    )


def _refused_error(error: Exception, setup: CredentialSetup) -> AwsError:
    """AWS refused what botocore asked by itself, such as the AssumeRole of a profile."""
    translated = error_from_botocore(error)
    message = f"{setup.subject} cannot be used: {translated.message}"
    return type(translated)(
        message,
        translated.hint,
        code=translated.code,
        action=translated.action,
        request_id=translated.request_id,
    )


def _single_use(_error: Exception, setup: CredentialSetup) -> AwsError:
    return NoCredentialsError(
        f"{_NONE}: the session of {setup.subject} has ended, and an MFA code is asked for once only",
        "Start again and type a new code.",
    )


def _setting_error(error: Exception, setup: CredentialSetup) -> AwsError:
    return NoCredentialsError(
        f"{_NONE}: {setup.subject}: {plain_error(error)}",
        "Correct it in the profile, or in the environment variable of that name.",
    )


def _parse_error(error: Exception, _setup: CredentialSetup) -> AwsError:
    path = getattr(error, "kwargs", {}).get("path", "")
    return NoCredentialsError(
        f"{_NONE}: the file {path} cannot be parsed",
        "Each line is [profile NAME], name = value, or a comment of its own (#).",
    )


def _botocore_error(error: Exception, _setup: CredentialSetup) -> AwsError:
    return error_from_botocore(error)


_EXPLANATIONS: tuple[
    tuple[type[Exception] | tuple[type[Exception], ...], Callable[[Exception, CredentialSetup], AwsError]],
    ...,
] = (
    (boto.ClientError, _refused_error),
    (boto.ProfileNotFound, _profile_missing),
    (boto.PartialCredentialsError, _partial_credentials),
    (boto.CredentialRetrievalError, _retrieval_error),
    (boto.RefreshWithMFAUnsupportedError, _single_use),
    (boto.MissingDependencyException, _missing_dependency),
    (boto.LoginError, _login_error),
    ((boto.SSOError, boto.TokenRetrievalError), _sso_error),
    (boto.ConfigParseError, _parse_error),
    (boto.ConfigNotFound, _not_found),
    ((boto.NoRegionError, boto.HTTPClientError, boto.ConnectionError), _botocore_error),
    (boto.BotoCoreError, _setting_error),
    (OSError, _file_error),
)


def bad_setting(session: Session, error: Exception) -> AwsError | None:
    """The setting that is no number, where that is the error: botocore reports only what it could not read."""
    if type(error) is not ValueError:
        return None
    for name, (option, variables, *_) in session.session_var_map.items():
        try:
            session.get_config_variable(name)
        except ValueError:
            named = variables if isinstance(variables, list | tuple) else (variables,)
            variable = next(
                (variable_name for variable_name in named if variable_name and variable_name in os.environ),
                "",
            )
            profile = f"{option} of the profile {session.profile or 'default'!r}"
            return NoCredentialsError(
                f"{_NONE}: {variable or profile} is no number",
                f"Write {variable or option} as a number alone; a comment needs a line of its own.",
            )
        except Exception:  # noqa: BLE001, S112  # it has its own sentence once it is needed
            continue
    return None


def _unknown_error(error: Exception, setup: CredentialSetup) -> AwsError:
    """Any other failure of a provider: named by its provider, never quoted."""
    stale = isinstance(error, RuntimeError) and "still expired" in str(error)
    if setup.description("credential_process"):
        return _process_error(error, setup, stale=stale)
    if setup.description("login_session"):
        return _login_error(boto.LoginTokenLoadError(error_msg=_CACHED_SESSION), setup)
    if setup.description("sso_session", "sso_start_url"):
        return _sso_error(boto.SSOTokenLoadError(error_msg=_CACHED_SESSION), setup)
    if setup.environ.get("AWS_CREDENTIAL_EXPIRATION") and (
        stale or isinstance(error, ValueError | TypeError)
    ):
        problem = "has passed" if stale else "is no time with a zone"
        kind: type[AwsError] = ExpiredCredentialsError if stale else NoCredentialsError
        return kind(f"{_NONE}: AWS_CREDENTIAL_EXPIRATION {problem}", _ENV_HINT)
    if stale:
        return ExpiredCredentialsError(
            f"the credentials of {setup.subject} have ended, although they were renewed"
        )
    if _container_variable(setup):
        refused = "its host, or the token for it, is none that may be used"
        odd = "what it answered is no credentials"
        return _container_error(refused if isinstance(error, ValueError) else odd, setup)
    return NoCredentialsError(
        f"{_NONE}: those of {setup.subject} cannot be understood ({type(error).__name__})",
        "`aws sts get-caller-identity` with the same profile shows the same.",
    )


_CACHED_SESSION = "what is kept of it cannot be understood"


def _process_error(error: Exception, setup: CredentialSetup, *, stale: bool) -> AwsError:
    link = setup.description("credential_process")
    if link and not link.runs:
        return _helper_error("is not written as a command", setup)
    if stale:
        return _helper_error("printed credentials that have ended", setup)
    if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return _helper_error("printed an Expiration that is no time", setup)
    return _helper_error("does not print JSON as it should", setup)
