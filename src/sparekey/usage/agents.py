"""User agents as a person would name them: SDK and tool, without versions and the noise of single calls.

What the parts of an agent mean: https://docs.aws.amazon.com/sdkref/latest/guide/feature-appid.html and the
user-agent sections of the SDKs.
"""

import re
from functools import lru_cache

UNKNOWN = "unknown"
_LONGEST = 1024  # CloudTrail itself cuts a user agent at 1 KB
_NAMES = 4
_NAME_LENGTH = 48
_COMMENT = re.compile(r"\([^()]*\)")
_IDS = re.compile(
    r"[_\-.:]?(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"  # a UUID
    r"|(?<![0-9A-Za-z])(?=[0-9a-f]*[0-9])[0-9a-f]{8,}(?![0-9A-Za-z])"  # a hash, a digest, a container's id
    r"|(?<![0-9A-Za-z])[0-9]+(?![0-9A-Za-z]))",
    re.IGNORECASE,
)
_VERSION = re.compile(r"[/#].*|-?v?\d[\d.]*$", re.DOTALL)
_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(?:\.cn)?")
# One application, whatever else it says of itself; the first that matches.
_WHOLE_AGENTS = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"\bOpenTofu/", "OpenTofu"),
        (r"\b(?:Terraform|terraform-provider-aws)/", "Terraform"),
        (r"\bpulumi", "Pulumi"),
        (r"\b(?:\w+ ?Console|(?:console|signin)\.amazonaws\.com)\b", "AWS console"),
        (r"^Mozilla/", "browser"),
        (r"^aws-internal/", "AWS Internal"),
    )
)
# A trailing generation or platform belongs to the version, not to the name.
_SDK = re.compile(
    r"aws-sdk-(?P<name>java|go|js|nodejs|rust|php|ruby|dotnet|net|cpp|swift|kotlin|ios|android)\d?\b.*",
    re.IGNORECASE,
)
_SDK_NAMES = {"nodejs": "js", "net": "dotnet"}
# Runtimes, platforms, settings and features: they differ between two calls of one application.
_NOISE_WORDS = """
    .net_core amd64 api apn arch arm64 aws-internal awscrt awssdk botocore cfg clientasync clientsync command
    config cpython crt darwin dotnet dotnetcore exe exec-env ft go guzzlehttp hashicorp
    hashicorp-terraform-exec hll http installer internal io java jvm kotlin lang lib linux m macos md mono
    netty node nodejs openjdk openjdk_64-bit_server_vm os osx paginated promise prompt pypy python resource
    retry retry-mode ruby rust s3manager s3transfer scala ua vendor waiter win windows x86_64 x86_64-linux
"""
_NOISE = frozenset(_NOISE_WORDS.split())


@lru_cache(maxsize=1 << 14)
def agent_family(agent: str) -> str:
    """The family of a user agent: at most four names, never empty.

    An application id that the SDK was given (`app/NAME`) is part of it.
    """
    text = printable(agent[:_LONGEST]).strip(" []")
    if not text:
        return UNKNOWN
    if whole := next((name for pattern, name in _WHOLE_AGENTS if pattern.search(text)), None):
        return whole
    if text == "AWS Internal" or _SERVICE.fullmatch(text):
        return text
    return " ".join(_names(text)[:_NAMES]) or _VERSION.sub("", text.split()[0]) or UNKNOWN


def printable(text: str) -> str:
    """The text without what would break a terminal, a table or an encoder."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


def _names(text: str) -> list[str]:
    """The names that identify applications, each once; without an SDK's own modules."""
    tokens = re.split(r"[,;]?\s+", _COMMENT.sub(" ", text))
    names = dict.fromkeys(name for token in tokens if (name := _name(token)))
    return [name for name in names if not (name.startswith("aws-sdk-") and name != next(iter(names)))]


def _name(token: str) -> str:
    head, _, rest = token.partition("/")
    if head == "app" and rest:
        return f"app/{_IDS.sub('', rest)[:_NAME_LENGTH]}"
    head = head.partition("#")[0]
    if sdk := _SDK.fullmatch(head):
        name = sdk["name"].lower()
        return f"aws-sdk-{_SDK_NAMES.get(name, name)}"
    name = _VERSION.sub("", _IDS.sub("", token)).strip("-_.:+*\"'")
    return "" if {head.lower(), name.lower()} & _NOISE else name[:_NAME_LENGTH]
