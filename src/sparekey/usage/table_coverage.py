"""What a table of Athena covers: which regions and accounts, and since when, by the table itself.

A table with projected partitions shows nothing of a region that its properties do not list, and no query shows that. So
the table's properties are compared with the regions that the account has enabled.
https://docs.aws.amazon.com/athena/latest/ug/partition-projection-supported-types.html
"""

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d+")
_ACCOUNT = re.compile(r"\d{12}")
_FIXED_REGION = re.compile(r"/CloudTrail/([a-z]{2,4}(?:-[a-z]+)+-\d+)(?:/|$)")
_FIXED_ACCOUNT = re.compile(r"/AWSLogs/(?:o-[a-z0-9]+/)?(\d{12})(?:/|$)")
_DATE = re.compile(r"(\d{4})(?:\D?(\d\d))?(?:\D?(\d\d))?")
_AGO = re.compile(r"NOW(?:\s*-\s*(\d{1,6})\s*(YEAR|MONTH|WEEK|DAY|HOUR|MINUTE|SECOND)S?)?", re.IGNORECASE)
# The shortest that each can be: a table is not taken to reach further back than it does.
_UNITS = {
    "year": timedelta(days=365),
    "month": timedelta(days=28),
    "week": timedelta(days=7),
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
    "minute": timedelta(minutes=1),
    "second": timedelta(seconds=1),
}
_NAMED = 5


class TableCoverage(NamedTuple):
    """From when to when a table reaches (None: not bounded by it), and why it may not be whole."""

    since: datetime | None = None
    until: datetime | None = None
    partial: tuple[str, ...] = ()


def table_coverage(
    table: Mapping[str, Any],
    partitions: Collection[str],
    regions: Collection[str],
    accounts: Collection[str],
    now: datetime,
) -> TableCoverage:
    """What a table covers of these regions and accounts.

    `table` is the `TableMetadata` of Athena's GetTableMetadata; `partitions` are those of a table that does not
    project them, as `SHOW PARTITIONS` lists them (`region=us-east-1/…`).
    """
    parameters = {name.lower(): str(value) for name, value in (table.get("Parameters") or {}).items()}
    keys = [str(key.get("Name", "")).lower() for key in table.get("PartitionKeys") or ()]
    values = _projected(parameters, keys) if _projects(parameters) else _listed(partitions, keys)
    place = parameters.get("storage.location.template") or parameters.get("location", "")
    spans = [
        _span(parameters.get(f"projection.{key}.range", ""), now)
        for key in keys
        if _projects(parameters) and parameters.get(f"projection.{key}.type", "").lower() == "date"
    ]
    return TableCoverage(
        max((begin for begin, _ in spans if begin), default=None),
        min((end for _, end in spans if end), default=None),
        (
            *_missing_values("region", values, _REGION, _FIXED_REGION.search(place), regions),
            *_missing_values("account", values, _ACCOUNT, _FIXED_ACCOUNT.search(place), accounts),
            *_unreadable(spans),
            *_without_partitions(parameters, keys, partitions),
            *_dropped(parameters),
        ),
    )


def _projects(parameters: Mapping[str, str]) -> bool:
    return parameters.get("projection.enabled", "").lower() == "true"


def _projected(parameters: Mapping[str, str], keys: Collection[str]) -> list[set[str]]:
    """The values of each key that the table projects from a list."""
    return [
        {value.strip() for value in parameters.get(f"projection.{key}.values", "").split(",")}
        for key in keys
        if parameters.get(f"projection.{key}.type", "").lower() == "enum"
    ]


def _listed(partitions: Collection[str], keys: Collection[str]) -> list[set[str]]:
    """The values of each key among the partitions that were added to the table."""
    pairs = [part.strip().partition("=") for line in partitions for part in line.split("/")]
    return [{value for name, _, value in pairs if name.lower() == key} for key in keys]


def _missing_values(
    what: str,
    values: Collection[set[str]],
    kind: re.Pattern[str],
    fixed: re.Match[str] | None,
    required: Collection[str],
) -> Iterator[str]:
    """Say which of the wanted regions or accounts the table leaves out."""
    shown = [value for value in values if any(map(kind.fullmatch, value))]
    if fixed:
        shown.append({fixed[1]})
    for value in shown:
        missing = sorted(set(required) - value)
        if missing:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            yield f"the table leaves out {what} {', '.join(missing[:_NAMED])}{more}"


def _span(text: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    begin, _, end = text.partition(",")
    return _time(begin, now), _time(end, now)


def _time(text: str, now: datetime) -> datetime | None:
    if ago := _AGO.fullmatch(text.strip()):
        return now - int(ago[1]) * _UNITS[ago[2].lower()] if ago[1] else now
    if date_match := _DATE.match(text.strip()):
        try:
            return datetime(int(date_match[1]), int(date_match[2] or 1), int(date_match[3] or 1), tzinfo=UTC)
        except ValueError:
            return None
    return None


def _unreadable(spans: Collection[tuple[datetime | None, datetime | None]]) -> Iterator[str]:
    if any(begin is None for begin, _ in spans):
        yield "since when the table reaches can't be read from its properties"


def _without_partitions(
    parameters: Mapping[str, str], keys: Collection[str], partitions: Collection[str]
) -> Iterator[str]:
    if keys and not partitions and not _projects(parameters):
        yield "the table has no partition"


def _dropped(parameters: Mapping[str, str]) -> Iterator[str]:
    """A reader that leaves out what it can't read leaves out calls."""
    for name, value in parameters.items():
        if name.endswith("ignore.malformed.json") and value.lower() == "true":
            yield "the table leaves out records that it can't read (ignore.malformed.json)"


UNBOUNDED = TableCoverage()
