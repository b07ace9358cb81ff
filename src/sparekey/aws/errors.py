"""Failures of AWS, of the network and of the credentials, each as one sentence; never a secret."""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

import msgspec
from botocore import exceptions as boto

from sparekey.aws import error_causes
from sparekey.errors import SparekeyError, without_password
from sparekey.model import Value

# https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
_DENIED = frozenset(
    {
        *("AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException"),
        *("NotAuthorized", "UnauthorizedOperation"),
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
# EC2's own words: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
_REJECTED = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_SKEWED = frozenset({"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"})
_REGION_OFF = frozenset({"OptInRequired", "RegionDisabledException"})
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


class ClockError(AwsError):
    """AWS refuses a request for its time: this machine's clock is wrong."""

    default_hint: ClassVar[str] = "Set this machine's clock (for example by NTP), then repeat the command."


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

    default_hint: ClassVar[str] = "Something else uses up this account's request rate; try again later."


class NotFoundError(AwsError):
    """The user, key or report is not there (any more)."""


class UnreachableError(AwsError):
    """No answer came: name resolution, connection, TLS, proxy, or time-out."""

    default_hint: ClassVar[str] = "Check the network, the proxy variables, AWS_ENDPOINT_URL and the region."


class SettingError(AwsError):
    """A setting of the AWS configuration holds something that botocore does not take."""

    default_hint: ClassVar[str] = "Correct it in the profile, or in the environment variable of that name."


class NoRegionError(AwsError):
    """botocore cannot resolve the endpoint without a region."""

    default_hint: ClassVar[str] = "Name one: `--region NAME`, AWS_REGION, or `region` in the profile."


class FailedServiceError(AwsError):
    """AWS failed on its side (HTTP 5xx), again and again."""

    default_hint: ClassVar[str] = "Try again later; https://health.aws.amazon.com shows AWS's own view."


class MalformedResponseError(AwsError):
    """The answer cannot be understood, or is not whole."""

    default_hint: ClassVar[str] = "Is something between here and AWS rewriting the answer?"


class ErrorResponse(Value, frozen=True, kw_only=True):
    """One error answer of AWS: its code and message, where it came from, and the header `Date` with our time."""

    service: str
    action: str
    account: str = ""
    region: str = ""
    status: int = 400
    code: str = ""
    message: str = ""
    request_id: str = ""
    date: str = ""
    received: datetime | None = None

    @property
    def call(self) -> str:
        """Service and action, as a policy names them."""
        return f"{self.service}:{self.action}"

    @property
    def where(self) -> str:
        """The call and the account, for a sentence."""
        return f"{self.call} in account {self.account}" if self.account else self.call

    @property
    def clock(self) -> str:
        """How far our clock is off, if it is."""
        return error_causes.clock_difference(
            error_causes.clock_offset(self.message, self.date, self.received)
        )


def error_from_response(response: ErrorResponse) -> AwsError:
    """The typed error for one error answer of AWS: message and hint name the cause."""
    code, request_id = _plain_word(response.code), _plain_word(response.request_id)
    kind, message, hint = _error_kind(msgspec.structs.replace(response, code=code))
    return kind(message, hint, code=code, action=response.call, request_id=request_id)


def _plain_word(text: str) -> str:
    """A code or an id as AWS writes them; an endpoint may answer anything."""
    return "".join(
        char for char in error_causes.without_secrets(text)[:80] if char.isascii() and char.isprintable()
    )


def _error_kind(response: ErrorResponse) -> tuple[type[AwsError], str, str]:
    code, status, where = response.code, response.status, response.where
    kind: type[AwsError] = AwsError
    message, hint = f"{where} failed: {code or f'HTTP {status}'}{_message(response)}", ""
    if code in _SKEWED or (code in _REJECTED and error_causes.is_clock_error(response.message)):
        return _clock_error(response)
    if code in _DENIED:
        return _denied_error(response)
    if code in _EXPIRED:
        kind, message = ExpiredCredentialsError, f"the credentials have expired ({where})"
        hint = _clock_kind(response, ExpiredCredentialsError)
    elif code in _REJECTED:
        # AWS quotes the canonical request here, and with it the session token: only the code is shown.
        kind, message = RejectedCredentialsError, f"AWS rejects the credentials: {code} ({where})"
        hint = _clock_kind(response, RejectedCredentialsError) or _region_kind(response)
    elif code in _REGION_OFF:
        message = f"{where} failed: region {response.region} is not enabled for the account ({code})"
        hint = "Enable it in the account's settings, or name another: `--region NAME`."
    elif code in THROTTLED or status == 429:
        kind, message = ThrottledError, f"too many requests: {where}"
    elif code == "NoSuchEntity" or code.endswith("NotFoundException"):
        kind, message = NotFoundError, f"not found: {where}{_message(response)}"
    elif code == "AWSOrganizationsNotInUseException":
        hint = "Use credentials of the organization's management account, or leave out --org."
    elif status >= 500:
        kind, message = FailedServiceError, f"AWS failed: {where} (HTTP {status}{code and ' ' + code})"
    elif 300 <= status < 400:
        message = f"{where} is redirected (HTTP {status}), which AWS does not do"
        hint = (
            "Check AWS_ENDPOINT_URL, and whether a proxy or a network's sign-in page answers instead of AWS."
        )
    return kind, message, hint


def _clock_error(response: ErrorResponse) -> tuple[type[AwsError], str, str]:
    """Too old or too new; on EC2 `RequestExpired` also means a session that has ended."""
    if response.code == "RequestExpired" and response.service == "ec2" and not response.clock:
        hint = (
            "" if response.date else f"{ExpiredCredentialsError.default_hint} Is this machine's clock right?"
        )
        return ExpiredCredentialsError, f"the credentials have expired ({response.where})", hint
    difference = response.clock or "this machine's clock is wrong"
    return ClockError, f"AWS refuses the request for its time: {difference} ({response.where})", ""


def _denied_error(response: ErrorResponse) -> tuple[type[AwsError], str, str]:
    denial = error_causes.denial(response.message)
    why = denial.why
    if response.call == "iam:GetAccessKeyLastUsed" and "policy" not in why and "boundary" not in why:
        # https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccessKeyLastUsed.html
        why = f"{why}; AWS answers the same for a key that no longer exists".removeprefix("; ")
    return DeniedError, f"access denied: {response.where}{why and f' ({why})'}", denial.hint


def _clock_kind(response: ErrorResponse, kind: type[AwsError]) -> str:
    difference = response.clock
    return f"{difference[0].upper()}{difference[1:]}: set it. {kind.default_hint}" if difference else ""


def _region_kind(response: ErrorResponse) -> str:
    if not error_causes.region_must_be_enabled(response.region):
        return ""
    return (
        f"AWS answers the same where region {response.region} is not enabled for the account: "
        f"enable it, or name another with --region. {RejectedCredentialsError.default_hint}"
    )


def _message(response: ErrorResponse) -> str:
    lines = error_causes.without_secrets(response.message).strip().splitlines()
    return f" ({lines[0][:300]})" if lines else ""


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


def error_from_botocore(error: Exception, action: str = "", profile: str = "") -> AwsError:
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
    )
    for errors, kind, translated in kinds:
        if isinstance(error, errors):
            return kind(f"{translated}: {plain_error(error)}", action=action)
    # Known by its type alone: the text of botocore's ResponseParserError is the answer, credentials and all.
    return AwsError(f"{action or 'the AWS client'} failed in an unexpected way ({type(error).__name__})")


def _from_client_error(error: boto.ClientError) -> AwsError:
    """A call that botocore made by itself, such as the AssumeRole of a profile."""
    response: Mapping[str, Mapping[str, object]] = error.response
    error_block, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    return error_from_response(
        ErrorResponse(
            service=_SERVICES.get(str(error.operation_name), "sts"),
            action=str(error.operation_name),
            status=int(str(meta.get("HTTPStatusCode", 400))),
            code=str(error_block.get("Code", "")),
            message=str(error_block.get("Message", "")),
            request_id=str(meta.get("RequestId", "")),
        )
    )


# What botocore calls by itself elsewhere than at STS.
_SERVICES = {"GetRoleCredentials": "sso", "CreateToken": "sso-oidc", "CreateOAuth2Token": "signin"}


def plain_error(error: Exception) -> str:
    """An error's own words on one line, without the password of an address."""
    return without_password(" ".join(str(error).split()).rstrip(".")[:300])
