"""Failures of AWS, of the way to it and of the credentials, told once as one sentence; never a secret."""

import re
from collections.abc import Mapping
from typing import ClassVar

from botocore import exceptions as boto

from sparekey.errors import SparekeyError, without_password

# https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_REJECTED = frozenset(
    {
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_SKEWED = frozenset({"RequestExpired", "RequestTimeTooSkewed"})
# The same codes as botocore's standard mode; a test holds them together.
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
TRANSIENT = frozenset({"PriorRequestNotComplete", "RequestTimeout", "RequestTimeoutException"})


class AwsError(SparekeyError):
    """AWS answered with an error, or could not be asked; `code` is its own word, if any."""

    def __init__(
        self, message: str, hint: str = "", *, code: str = "", action: str = "", request_id: str = ""
    ) -> None:
        super().__init__(message, hint)
        self.code = code
        self.action = action
        self.request_id = request_id


class NoCredentialsError(AwsError):
    """No credentials were found, or the way to them does not work."""

    default_hint: ClassVar[str] = (
        "Sign in as for the AWS CLI: `--profile NAME`, `aws sso login`, or the AWS_* variables."
    )


class ExpiredCredentialsError(AwsError):
    """The session has ended."""

    default_hint: ClassVar[str] = "Sign in again (for example `aws sso login`), then repeat the command."


class SessionEndedError(AwsError):
    """A role's session ended before its time; nothing was done, and another session can be taken."""

    default_hint: ClassVar[str] = "Is this machine's clock right? Try again: another session is taken."


class RejectedCredentialsError(AwsError):
    """AWS does not know the access key, or the signature is wrong."""

    default_hint: ClassVar[str] = (
        "The key may be inactive, deleted, mistyped or of another partition; "
        "`aws sts get-caller-identity` shows the same."
    )


class NotEnteredError(AwsError):
    """An account's role or profile could not be used, so nothing of the account can be read."""

    default_hint: ClassVar[str] = (
        "Does the role exist there, and does it trust the caller and the external id?"
    )


class DeniedError(AwsError):
    """The caller may not do this."""

    default_hint: ClassVar[str] = "`sparekey iam-policy` prints the permissions that each command needs."


class ThrottledError(AwsError):
    """AWS went on refusing for too many requests, however slowly they came."""

    default_hint: ClassVar[str] = "Something else uses up this account's IAM request rate; try again later."


class NotFoundError(AwsError):
    """The user, key or report is not there (any more)."""


class UnreachableError(AwsError):
    """No answer came: name resolution, connection, TLS, proxy, or time-out."""

    default_hint: ClassVar[str] = (
        "Check the network, the proxy variables, AWS_ENDPOINT_URL and the region; nothing was assumed."
    )


class SettingError(AwsError):
    """A setting of the AWS configuration holds something that botocore does not take."""

    default_hint: ClassVar[str] = "Mend it in the profile, or in the variable of that name."


class NoRegionError(AwsError):
    """botocore cannot tell the endpoint without a region."""

    default_hint: ClassVar[str] = "Name one: `--region NAME`, AWS_REGION, or `region` in the profile."


class FailedServiceError(AwsError):
    """AWS failed on its side (HTTP 5xx), again and again."""

    default_hint: ClassVar[str] = "Try again later; https://health.aws.amazon.com shows AWS's own view."


class BadAnswerError(AwsError):
    """The answer cannot be understood, or is not whole."""

    default_hint: ClassVar[str] = "Is something between here and AWS rewriting the answer?"


def from_answer(
    *, service: str, action: str, account: str, status: int, code: str, said: str, request_id: str
) -> AwsError:
    """The typed error for one error answer of AWS."""
    call = f"{service}:{action}"
    where = f"{call} in account {account}" if account else call
    kind, message, hint = _read(status, code, said, where)
    return kind(message, hint, code=code, action=call, request_id=request_id)


def _read(status: int, code: str, said: str, where: str) -> tuple[type[AwsError], str, str]:
    kind: type[AwsError] = AwsError
    message, hint = f"{where} failed: {code or f'HTTP {status}'}{_said(said)}", ""
    if code in _DENIED:
        kind, message = DeniedError, f"access denied: {where}{_because(said)}"
    elif code in _EXPIRED:
        kind, message = ExpiredCredentialsError, f"the credentials have expired ({where})"
    elif code in _REJECTED:
        # AWS quotes the canonical request here, and with it the session token: only the code is told.
        kind, message = RejectedCredentialsError, f"AWS rejects the credentials: {code} ({where})"
    elif code in _SKEWED:
        message, hint = f"AWS finds the request's time wrong ({where})", "Set this machine's clock right."
    elif code in THROTTLED or status == 429:
        kind, message = ThrottledError, f"too many requests: {where}"
    elif code == "NoSuchEntity" or code.endswith("NotFoundException"):
        kind, message = NotFoundError, f"not found: {where}{_said(said)}"
    elif code == "AWSOrganizationsNotInUseException":
        hint = "Use credentials of the organization's management account, or leave out --org."
    elif status >= 500:
        kind, message = FailedServiceError, f"AWS failed: {where} (HTTP {status}{code and ' ' + code})"
    return kind, message, hint


def _said(said: str) -> str:
    line = said.strip().splitlines()[0][:300] if said.strip() else ""
    return f" ({line})" if line else ""


def _because(said: str) -> str:
    """AWS's own reason, where it gives one: which kind of policy it was that denied."""
    match = re.search(r"because (.{1,200})", said)
    if match:
        return f" ({match[1].rstrip('.')})"
    return " (an explicit deny)" if "explicit deny" in said else ""


_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.ProfileNotFound,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    boto.InvalidConfigError,
    boto.ConfigNotFound,
    boto.ConfigParseError,
    boto.MissingDependencyException,
    boto.UnknownCredentialError,
    boto.RefreshWithMFAUnsupportedError,
)
_SETTINGS = (
    boto.EndpointProviderError,
    boto.InvalidChecksumConfigError,
    boto.InvalidDefaultsMode,
    boto.InvalidEndpointConfigurationError,
    boto.InvalidIMDSEndpointError,
    boto.InvalidIMDSEndpointModeError,
    boto.InvalidProxiesConfigError,
    boto.InvalidRegionError,
    boto.InvalidRetryConfigurationError,
    boto.InvalidSTSRegionalEndpointsConfigError,
)
_EXPIRED_SESSION = (boto.SSOError, boto.LoginError, boto.TokenRetrievalError)


def from_botocore(error: Exception, action: str = "", profile: str = "") -> AwsError:
    """The typed error for what botocore's endpoint rules or HTTP session raised; credentials: chain_errors.

    `profile` is the one whose settings are used.
    """
    if isinstance(error, boto.ClientError):
        return _from_client_error(error)
    kinds: tuple[tuple[tuple[type[Exception], ...], type[AwsError], str], ...] = (
        (_EXPIRED_SESSION, ExpiredCredentialsError, "the sign-in has ended"),
        (_NO_CREDENTIALS, NoCredentialsError, "no usable AWS credentials"),
        ((boto.NoRegionError,), NoRegionError, "no AWS region is set"),
        ((boto.HTTPClientError, boto.ConnectionError), UnreachableError, "AWS cannot be reached"),
        (_SETTINGS, SettingError, f"the AWS configuration cannot be used (profile {profile or 'default'!r})"),
        ((ValueError,), UnreachableError, "AWS cannot be reached"),  # an endpoint that is no URL
        ((Exception,), AwsError, f"{action or 'the AWS client'} failed"),
    )
    kind, told = next((kind, told) for causes, kind, told in kinds if isinstance(error, causes))
    return kind(f"{told}: {plain(error)}", action=action)


def _from_client_error(error: boto.ClientError) -> AwsError:
    """A call that botocore made by itself, such as the AssumeRole of a profile."""
    answer: Mapping[str, Mapping[str, object]] = error.response
    told, meta = answer.get("Error", {}), answer.get("ResponseMetadata", {})
    return from_answer(
        service=_SERVICES.get(str(error.operation_name), "sts"),
        action=str(error.operation_name),
        account="",
        status=int(str(meta.get("HTTPStatusCode", 400))),
        code=str(told.get("Code", "")),
        said=str(told.get("Message", "")),
        request_id=str(meta.get("RequestId", "")),
    )


# What botocore calls by itself elsewhere than at STS.
_SERVICES = {"GetRoleCredentials": "sso", "CreateToken": "sso-oidc", "CreateOAuth2Token": "signin"}


def plain(error: Exception) -> str:
    """An error's own words on one line, without the password of an address."""
    return without_password(" ".join(str(error).split()).rstrip(".")[:300])
