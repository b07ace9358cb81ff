"""Proof of use: who still uses a key, from CloudTrail. One module per source, all giving `Usage`."""

import importlib
import re
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from sparekey.errors import BadInputError
from sparekey.model import Consumer, Usage
from sparekey.plugins import names_in
from sparekey.usage import sources as _sources
from sparekey.usage.request import ReadProgress, UsageRequest
from sparekey.usage.sources.interface import UsageSource

__all__ = ["ReadProgress", "UsageRequest", "document", "read_usage", "source_names"]

SCHEMA = "sparekey/usage/1"
# https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKey.html
_KEY = re.compile(r"\w{20,128}", re.ASCII)
# AWS began in the one, and no archive reaches the other.
_FIRST, _END = datetime(2006, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def source_names() -> tuple[str, ...]:
    """The names of the usage sources."""
    return names_in(_sources.__path__)


def read_usage(source: str, keys: Collection[str], request: UsageRequest | None = None) -> tuple[Usage, ...]:
    """Read who used the keys from `history`, `archive=PLACE` or `athena=TABLE`, sorted by key.

    Raises BadInputError for an unknown source or a text that is no key id, and UnreadError where nothing at
    all could be read; what was unread in part stands in the usages.
    """
    name, _, spec = source.partition("=")
    if name not in source_names():
        raise BadInputError(f"{name!r} is no usage source", f"Use one of {', '.join(source_names())}.")
    for key in keys:
        if not _KEY.fullmatch(key):
            raise BadInputError(f"{key[:130]!r} is no access key id", "It looks like AKIAIOSFODNN7EXAMPLE.")
    request = _checked_request(request or UsageRequest())
    usages, limits = _module(name).read(spec, sorted(set(keys)), request), _limits(request)
    return tuple(msgspec.structs.replace(usage, partial=(*usage.partial, *limits)) for usage in usages)


def _checked_request(request: UsageRequest) -> UsageRequest:
    """The request with a window that can be reckoned with: no call is outside of these years."""
    since, until = request.since, request.until
    return replace(
        request, since=since and min(max(since, _FIRST), _END), until=until and min(max(until, _FIRST), _END)
    )


def _limits(request: UsageRequest) -> tuple[str, ...]:
    """What a person left out by choice: who calls elsewhere is not seen, so the usage is not whole."""
    asked = (("region", request.regions), ("account", request.accounts))
    return tuple(f"only {name} {', '.join(sorted(values))} was asked for" for name, values in asked if values)


def document(usages: Collection[Usage]) -> bytes:
    """The JSON of schema `sparekey/usage/1`."""
    unread = sorted({(entry.what, entry.why) for usage in usages for entry in usage.unread})
    return msgspec.json.encode(
        {
            "schema": SCHEMA,
            "keys": [_key(usage) for usage in sorted(usages, key=lambda usage: usage.key)],
            "unread": [{"place": place, "why": why} for place, why in unread],
        }
    )


def _key(usage: Usage) -> dict[str, Any]:
    return {
        "key": usage.key,
        "since": usage.since,
        "until": usage.until,
        "calls": usage.calls,
        "errors": usage.errors,
        "first_seen": usage.first_seen,
        "last_seen": usage.last_seen,
        "sessions": usage.sessions,
        "partial": usage.partial,
        "notes": usage.notes,
        "consumers": [_consumer(consumer) for consumer in usage.consumers],
    }


def _consumer(consumer: Consumer) -> dict[str, Any]:
    return {
        "agent": consumer.agent,
        "source": consumer.source,
        "actions": sorted({f"{use.service}:{action}" for use in consumer.uses for action in use.actions}),
        "calls": consumer.calls,
        "first_seen": consumer.first_seen,
        "last_seen": consumer.last_seen,
    }


def _module(name: str) -> UsageSource:
    module: Any = importlib.import_module(f"{_sources.__name__}.{name}")
    source: UsageSource = module
    return source
