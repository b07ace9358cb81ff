"""What AWS and machines put beside CloudTrail's logs: recognised, so that it makes no good archive partial.

A folder of AWS's own layout that belongs to another service is not walked. Any other file is opened first, whatever
its name: only what then is no CloudTrail log is judged here, by its name and by its content.
"""

import json
import re
from typing import Any

from sparekey.usage.archive.decompression import decompressed
from sparekey.usage.archive.delivering_services import ACCOUNT, NAMES
from sparekey.usage.bounds import ForeignTextError

# A folder of a service that is not known here: its files are opened, and need not be CloudTrail's.
_UNKNOWN = re.compile(rf"{ACCOUNT}/(?!CloudTrail(?:/|$))[^/]+/", re.IGNORECASE)
_FILE = re.compile(
    rf"^(?:\d{{12}}_(?:{NAMES})_.*"
    r"|ConfigWritabilityCheckFile|ELBAccessLogTestFile|aws-programmatic-access-test-object|AMAZON_SES_SETUP_NOTIFICATION"
    r"|\d{4}(?:-\d\d){5}-[0-9A-F]{16}"  # a server access log of S3
    r"|E[A-Z0-9]{10,14}\.\d{4}-\d\d-\d\d-\d\d\.[0-9a-f]{8}(?:\.gz)?)$"  # CloudFront's
)
_TEXT = re.compile(
    rb"(?:version |\d+ )?account-id |2 (?:\d{12}|unknown) "  # flow logs
    rb"|#Version: 1\.0\r?\n#Fields:"  # CloudFront
    rb"|[0-9a-f]{64} \S+ \[\d\d/\w{3}/\d{4}:"  # S3
    rb"|(?:https?|h2|grpcs?|wss?|tls) \d{4}-\d\d-\d\dT[\d:.]+Z "  # load balancers
)
# Files that AWS writes as one JSON object: each set of names belongs to one kind.
_OBJECTS = (
    frozenset({"awsAccountId", "digestStartTime", "digestEndTime"}),
    frozenset({"fileVersion", "configSnapshotId"}),
    frozenset({"fileVersion", "configurationItems"}),
    frozenset(
        {"schemaVersion", "accountId", "region", "partition", "arn", "service", "severity"}
    ),  # GuardDuty
    frozenset({"webaclId", "httpRequest", "action"}),  # WAF
    frozenset({"query_timestamp", "query_name", "query_type"}),  # Route 53 Resolver
    frozenset({"firewall_name", "event_timestamp", "event"}),  # Network Firewall
)
_LOG_NAME = re.compile(r"_CloudTrail_|\.(?:json|jsonl|ndjson|gz|bz2|xz|zst|zip|log)(?:\.|$)", re.IGNORECASE)
# What a file manager leaves: a name, and how such a file begins.
_LEFTOVERS = (
    (re.compile(r"^\.DS_Store$"), b"\0\0\0\1Bud1"),
    (re.compile(r"^\._"), b"\0\x05\x16\x07"),
    (re.compile(r"^(?:Thumbs|ehthumbs)\.db$"), b"\xd0\xcf\x11\xe0"),
)
_PLAIN = 0.75  # characters a byte: text read in an encoding that it is not in has fewer, and hides its ids
_MOST = 1 << 25  # bytes that are searched or parsed to recognise a file
_ID = re.compile(rb"(?:AKIA|ASIA|ABIA)[A-Z0-9]{16}")
_BINARY = re.compile(rb"[\0-\x08\x0e-\x1f]")
# Text that only spells bytes: what it packs can't be searched.
_COMPRESSED = re.compile(rb"[A-Za-z0-9+/=_\-\s]{200,}")


def explain_other_file(path: str, data: bytes) -> bool:
    """True where a file that is no CloudTrail log need not be one: another service's, or text without any key id.

    `path` is the whole path, and `data` the bytes of the file as they lie there. A name alone explains nothing: it
    says what a text without key ids may be, and in which text no part of a log can be hidden.
    """
    name = path.rpartition("/")[2]
    if any(kind.match(name) and data.startswith(begin) for kind, begin in _LEFTOVERS):
        return True
    try:
        text = decompressed(data)
        characters = len(text.decode())
    except (ForeignTextError, UnicodeDecodeError):
        return False
    if _is_of_another_service(text):
        return True
    return characters >= _PLAIN * len(text) and _without_ids(text) and _need_not_be_a_log(path, name, text)


def _is_of_another_service(text: bytes) -> bool:
    if _TEXT.match(text):
        return True
    if not text.startswith((b"{", b" ", b"\n")):
        return False
    names = _names_in(text)
    return any(kind <= names for kind in _OBJECTS)


def _names_in(text: bytes) -> frozenset[str]:
    """The names in the first JSON object of a text, be it all of it or a line."""
    for part in (text, text.partition(b"\n")[0]):
        if len(part) > _MOST:
            continue
        try:
            document: Any = json.loads(part)
        except (ValueError, RecursionError):
            continue
        return frozenset(document) if isinstance(document, dict) else frozenset()
    return frozenset()


def _without_ids(text: bytes) -> bool:
    """True where a text was searched, and no key id stands in it, open or packed."""
    return not (
        len(text) > _MOST
        or _ID.search(text)
        or _BINARY.search(text)
        or b"\\u00" in text
        or _COMPRESSED.fullmatch(text)
    )


def _need_not_be_a_log(path: str, name: str, text: bytes) -> bool:
    """True where the name is of another service's file, or neither name nor text is like a log."""
    document = text.lstrip().startswith((b"{", b"["))
    if _FILE.match(name):
        return True
    if _UNKNOWN.search(path):
        return not document or bool(_names_in(text))
    return not _LOG_NAME.search(name) and not document and not text.lstrip().startswith(b'"')
