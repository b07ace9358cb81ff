"""The cause in an error message of AWS: a wrong clock, which policy denied, a region that is not enabled; pure."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from sparekey.model import Value

# AWS accepts a request for 5 to 15 minutes; less than this is no cause of anything.
_SKEW = timedelta(minutes=4)
# "Signature expired: 20261125T180000Z is now earlier than 20261125T202500Z (20261125T204000Z - 15 min.)"
# "Signature not yet current: 20261125T230000Z is still later than 20261125T202000Z (20261125T201500Z + 5 min.)"
# The last time is AWS's own. Recorded: https://github.com/aws/aws-sdk-js/issues/1652, …/issues/254
_SIGNED_AT = re.compile(
    r"Signature\s+(?:expired|not\s+yet\s+current)(?::\s+(\d{8}T\d{6}Z)[^(]*\((\d{8}T\d{6}Z))?", re.IGNORECASE
)

# https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
_IMPLICIT = re.compile(r"because (no [\w /-]{1,60}? allows? the .{1,100}? action|.{1,200}?)(?=\.\s|\.?$)")
_EXPLICIT = re.compile(r"an explicit deny(?: in (?:an? )?([\w /-]{1,60}))?(?:: ?(arn:[\w:/.*+=,@-]{1,300}))?")
# https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied-authorization-id.html
_AUTHORIZATION = re.compile(r"authorization id: ([\w-]{8,128})", re.IGNORECASE)
_CONSOLE = re.compile(
    r"https://(?:[\w-]+\.)*console\.(?:aws\.amazon\.com|amazonaws-us-gov\.com|amazonaws\.cn|aws\.eu)/[!-~]{1,400}"
)

# By a word of the policy's kind: who can change it.
_POLICIES = (
    (
        "service control policy",
        "A service control policy of the organization decides that: only who administers it can change it.",
    ),
    (
        "resource control policy",
        "A resource control policy of the organization decides that: only who administers it can change it.",
    ),
    (
        "permissions boundary",
        "The permissions boundary of the user or role limits it: change the boundary, not the policies.",
    ),
    (
        "session policy",
        "The session policy limits it: start a session without one, or with a wider one.",
    ),
    ("vpc endpoint policy", "The policy of the VPC endpoint that the request went through limits it."),
    ("role trust policy", "The role does not trust the caller: change the role's trust policy."),
    ("resource-based policy", "The policy of what is asked for decides that: change it there."),
)
_EXPLICIT_HINT = (
    "A policy denies it by name; a further permission does not help: change or leave out that policy."
)

# Every account has these regions; one that came after 20 March 2019 must be enabled first.
# https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html
_NO_SECRETS = frozenset(
    {
        *("ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1"),
        *("ap-southeast-2", "ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2"),
        *("eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2"),
    }
)
# Of 40 characters a secret access key; of a hundred and more a session token or an encoded message.
_SECRET = re.compile(r"(?<![\w/+=-])(?:[\w/+=-]{100,}|[A-Za-z0-9/+]{40}(?![\w/+=-]))")


class Denial(Value, frozen=True):
    """Why AWS denied something: its own reason with the authorization id, and what helps."""

    why: str = ""
    hint: str = ""


def denial(message: str) -> Denial:
    """What a denial says about the policy that denied, and where AWS shows the details."""
    explicit, implicit = _EXPLICIT.search(message), _IMPLICIT.search(message)
    if explicit:
        kind, arn = explicit[1], explicit[2]
        why = "an explicit deny" + (f" in a {kind}" if kind else "") + (f": {arn.rstrip('.')}" if arn else "")
        why = why.replace(" in a identity", " in an identity")
        hint = _hint(kind or "") or _EXPLICIT_HINT
    else:
        why = implicit[1] if implicit else ""
        hint = _hint(why)
    if match := _AUTHORIZATION.search(message):
        why = f"{why}; authorization id {match[1]}".removeprefix("; ")
    if console := _CONSOLE.search(message):
        hint = f"{hint} AWS shows the details at {console[0]}".strip()
    return Denial(without_secrets(why), hint)


def _hint(kind: str) -> str:
    return next((hint for word, hint in _POLICIES if word in kind.lower()), "")


def is_clock_error(message: str) -> bool:
    """True where AWS refused a signature for its time."""
    return _SIGNED_AT.search(message) is not None


def clock_offset(message: str, date: str = "", now: datetime | None = None) -> timedelta | None:
    """How far this machine's clock is ahead of AWS's (below zero: behind); None where it is not known.

    AWS's time stands in some messages, and in the header `Date` of the answer that came at `now`.
    """
    match = _SIGNED_AT.search(message)
    try:
        if match and match[1]:
            ours, theirs = (datetime.strptime(match[n], "%Y%m%dT%H%M%S%z") for n in (1, 2))
            return ours - theirs
        sent = parsedate_to_datetime(date)
    except ValueError:
        return None
    return None if now is None else now - (sent if sent.tzinfo else sent.replace(tzinfo=UTC))


def clock_difference(offset: timedelta | None) -> str:
    """How far the clock is off, where that is far enough to matter; else empty."""
    if offset is None or abs(offset) < _SKEW:
        return ""
    minutes = int(abs(offset).total_seconds() // 60)
    far = (
        f"{minutes} min"
        if minutes < 120
        else f"{minutes // 60} h"
        if minutes < 2880
        else f"{minutes // 1440} days"
    )
    return f"this machine's clock is {far} {'ahead of' if offset > timedelta(0) else 'behind'} AWS's"


def region_must_be_enabled(region: str) -> bool:
    """True for a region of the partition aws that an account has only after it was enabled."""
    return (
        re.fullmatch(r"[a-z]{2}-[a-z]+-\d", region) is not None
        and not region.startswith("cn-")
        and region not in _NO_SECRETS
    )


def without_secrets(text: str) -> str:
    """The text with everything left out that could be a secret access key, a token or an encoded message."""
    return _SECRET.sub(lambda match: match[0] if _is_ordinary_word(match[0]) else "[…]", text)


def _is_ordinary_word(run: str) -> bool:
    """True for 40 characters that are no secret key: a path or a digest is not of capitals, small and digits."""
    kinds = (any(c.isupper() for c in run), any(c.islower() for c in run), any(c.isdigit() for c in run))
    return len(run) < 100 and not all(kinds)
