"""Athena: its SQL is run in DuckDB over the archives that the scanner reads, its calls against moto."""

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.session
import duckdb
import pytest
import sqlglot
from moto import mock_aws
from moto.athena.models import QueryResults, athena_backends
from moto.moto_api import state_manager
from sqlglot import exp

from sparekey import usage
from sparekey.errors import BadInputError, UnreadError
from sparekey.model import Usage
from sparekey.usage.request import ReadProgress, UsageRequest
from sparekey.usage.sources import athena
from support import plain_archive_reader
from support.archive_samples import ACCOUNT, FOREIGN, NEW, OLD, SESSIONS, mint, put, record
from support.clocks import VirtualClock

ARCHIVE = Path(__file__).parents[1] / "data" / "cloudtrail"
KEYS = ["AKIATFQR7NSC8Q4X20BJ", "AKIATFQR7NSCUXC3DDDP", "AKIATFQZ7NSC8Q4X21BJ", "AKIATFQR7NSC3ZO6PKAZ"]
NOW = datetime(2026, 3, 1, tzinfo=UTC)
_TEXTS = (
    *("eventTime", "eventSource", "eventName", "awsRegion", "sourceIPAddress", "userAgent"),
    *("errorCode", "eventID"),
)


def in_duckdb(records: list[Any], text: str) -> list[dict[str, Any]]:
    """Run Athena's query over records laid out as the table of `ddl` shows them."""
    lines = [
        {name.lower(): one.get(name) for name in _TEXTS}
        | {
            "useridentity": {"accesskeyid": plain_archive_reader.principal(one)},
            "responseelements": json.dumps(one.get("responseElements")),
            "account": ACCOUNT,
            "region": one.get("awsRegion"),
            "timestamp": one["eventTime"][:10].replace("-", "/"),
        }
        for one in records
    ]
    with duckdb.connect() as base:
        base.execute(
            "CREATE TABLE trail (useridentity STRUCT(accesskeyid VARCHAR), eventtime VARCHAR,"
            " eventsource VARCHAR, eventname VARCHAR, awsregion VARCHAR, sourceipaddress VARCHAR,"
            " useragent VARCHAR, errorcode VARCHAR, responseelements VARCHAR, eventid VARCHAR,"
            " account VARCHAR, region VARCHAR, timestamp VARCHAR)"
        )
        for line in lines:
            columns = ", ".join(line)
            base.execute(
                f"INSERT INTO trail ({columns}) VALUES ({', '.join('?' * len(line))})", list(line.values())
            )
        (translated,) = sqlglot.transpile(text, read="athena", write="duckdb")
        rows = base.execute(translated).fetchall()
    return [dict(zip(athena._COLUMNS, row, strict=True)) for row in rows]


def asked(records: list[Any], keys: list[str], **options: Any) -> tuple[Usage, ...]:
    request = UsageRequest(clock=VirtualClock(NOW), **options)
    return athena.usages(in_duckdb(records, athena.query("trail", keys, request)), "trail", keys, request)


def facts(found: Usage) -> Any:
    """What must be the same whichever source tells it."""
    return (
        found.key,
        found.calls,
        found.errors,
        found.sessions,
        found.first_seen,
        found.last_seen,
        found.consumers,
    )


def test_the_query_tells_of_a_real_archive_what_the_scanner_does() -> None:
    scanned = usage.read_usage(f"archive={ARCHIVE}", KEYS, UsageRequest(processes=1))
    queried = asked(list(plain_archive_reader.read_records(ARCHIVE)), KEYS)
    assert list(map(facts, queried)) == list(map(facts, scanned))
    assert sum(entry.calls for entry in queried) == 1280 + 28 + 19


RECORDS = [
    mint(OLD, SESSIONS[0], "2026-01-10T08:00:00Z"),
    mint(SESSIONS[0], SESSIONS[1]),
    mint(SESSIONS[1], SESSIONS[2], errorCode="AccessDenied"),
    mint(FOREIGN, SESSIONS[3]),
    record(SESSIONS[1], errorCode="AccessDenied", userAgent=None, sourceIPAddress=None),
    record(SESSIONS[2]),
    record(SESSIONS[3]),
    record(None),
    *[record(OLD, f"2026-01-{day}T{day}:00:00Z") for day in (11, 12, 13)],
    *[record(OLD, f"2026-01-{day}T{day}:00:00Z") for day in (11, 12, 13)],
    record(NEW, "2026-01-20T01:00:00Z", responseElements={"accessKey": {"accessKeyId": SESSIONS[4]}}),
]


@pytest.mark.parametrize(
    "window",
    [
        {},
        {"since": datetime(2026, 1, 10, 8, 30, tzinfo=UTC)},
        {"since": datetime(2026, 1, 12, tzinfo=UTC), "until": datetime(2026, 1, 13, 13, tzinfo=UTC)},
        {"accounts": frozenset({ACCOUNT}), "regions": frozenset({"eu-central-1"})},
    ],
)
def test_the_query_tells_of_sessions_errors_and_windows_what_the_scanner_does(
    tmp_path: Path, window: Any
) -> None:
    put(tmp_path, "all.json", *RECORDS)
    keys = [NEW, OLD]
    scanned = usage.read_usage(f"archive={tmp_path}", keys, UsageRequest(processes=1, **window))
    queried = asked(RECORDS, keys, **window)
    assert list(map(facts, queried)) == list(map(facts, scanned))
    assert any(entry.calls for entry in queried)


def test_what_the_query_covers_is_told() -> None:
    (old,) = asked(RECORDS, [OLD])
    assert (old.since, old.until) == (datetime(2026, 1, 10, 8, tzinfo=UTC), NOW - timedelta(minutes=15))
    assert "8 links" in old.notes[0]
    (old,) = asked(RECORDS, [OLD], since=NOW - timedelta(days=90), until=NOW - timedelta(days=1))
    assert (old.since, old.until) == (NOW - timedelta(days=90), NOW - timedelta(days=1))


@pytest.mark.parametrize("table", ["a b", 'x"; DROP TABLE y', "a.b.c", "", "1a"])
def test_a_name_that_is_no_tables_is_refused(table: str) -> None:
    with pytest.raises(BadInputError, match="no table name"):
        athena.query(table, [OLD], UsageRequest())


TABLE: dict[str, dict[str, Any]] = {
    "GetTableMetadata": {
        "TableMetadata": {
            "PartitionKeys": [{"Name": "account"}, {"Name": "region"}, {"Name": "timestamp"}],
            "Parameters": {
                "projection.enabled": "true",
                "projection.account.type": "enum",
                "projection.account.values": f"{ACCOUNT},222233334444",
                "projection.region.type": "enum",
                "projection.region.values": "eu-central-1,us-east-1",
                "projection.timestamp.type": "date",
                "projection.timestamp.range": "2025/01/01,NOW",
                "storage.location.template": "s3://b/AWSLogs/${account}/CloudTrail/${region}/${timestamp}",
            },
        }
    },
    "DescribeRegions": {"Regions": [{"RegionName": "eu-central-1"}, {"RegionName": "us-east-1"}]},
}


class AthenaByMoto:
    """Athena's calls, answered by moto with the rows that it is handed; a query runs for two polls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        self.client = botocore.session.Session().create_client("athena", region_name="eu-central-1")
        self.backend = athena_backends["123456789012"]["eu-central-1"]
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def hand_out(self, rows: list[dict[str, Any]]) -> None:
        self.backend.query_results_queue.append(
            QueryResults(rows=[{"Data": data} for data in _as_athena(rows)], column_info=[])
        )

    def __call__(
        self, service: str, action: str, params: Mapping[str, Any], region: str | None = None
    ) -> dict[str, Any]:
        if action in TABLE:
            return TABLE[action]
        assert service == "athena"
        self.asked.append((action, dict(params)))
        answer: dict[str, Any] = self.client._make_api_call(action, dict(params))
        return answer


def _as_athena(rows: list[dict[str, Any]]) -> list[list[dict[str, str]]]:
    """Rows as GetQueryResults tells them: texts, none for null, the names of the columns first."""
    texts: list[list[Any]] = [[*athena._COLUMNS], *(list(row.values()) for row in rows)]
    return [
        [
            {} if one is None else {"VarCharValue": one if isinstance(one, str) else str(one).lower()}
            for one in row
        ]
        for row in texts
    ]


@pytest.fixture
def by_moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[AthenaByMoto]:
    with mock_aws():
        state_manager.set_transition("athena::execution", {"progression": "manual", "times": 2})
        yield AthenaByMoto(monkeypatch)
        state_manager.unset_transition("athena::execution")


def test_athena_is_asked_waited_for_and_read(by_moto: AthenaByMoto) -> None:
    by_moto.hand_out(in_duckdb(RECORDS, athena.query("trail", [OLD], UsageRequest())))
    received: list[ReadProgress] = []
    clock = VirtualClock(NOW)
    options = UsageRequest(
        call=by_moto, clock=clock, progress=received.append, workgroup="primary", output="s3://results/here"
    )
    (found,) = usage.read_usage("athena=trail", [OLD], options)
    (expected,) = asked(RECORDS, [OLD])
    assert found == expected
    start = by_moto.asked[0][1]
    assert start["QueryString"] == athena.query("trail", [OLD], options)
    assert len(start["ClientRequestToken"]) >= 32
    assert (start["WorkGroup"], start["ResultConfiguration"]) == (
        "primary",
        {"OutputLocation": "s3://results/here"},
    )
    assert clock.waits
    assert set(clock.waits) == {2.0}
    # The window ends where the query began, however long it took.
    assert clock.now() > NOW
    assert found.until == expected.until
    assert received


def test_results_are_read_to_the_last_page() -> None:
    rows = in_duckdb(RECORDS, athena.query("trail", [OLD], UsageRequest()))
    received = _as_athena(rows)

    def call(
        service: str, action: str, params: Mapping[str, Any], region: str | None = None
    ) -> dict[str, Any]:
        if action in TABLE:
            return TABLE[action]
        if action == "StartQueryExecution":
            return {"QueryExecutionId": "q"}
        if action == "GetQueryExecution":
            return {"QueryExecution": {"Status": {"State": "SUCCEEDED"}}}
        at = int(params.get("NextToken", 0))
        page = {"ResultSet": {"Rows": [{"Data": received[at]}]}}
        return page | ({"NextToken": str(at + 1)} if at + 1 < len(received) else {})

    (found,) = usage.read_usage("athena=trail", [OLD], UsageRequest(call=call, clock=VirtualClock(NOW)))
    assert [found] == list(asked(RECORDS, [OLD]))
    assert len(rows) > 2


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"State": "FAILED", "StateChangeReason": "TABLE_NOT_FOUND: line 1"}, "TABLE_NOT_FOUND"),
        ({"State": "CANCELLED"}, "CANCELLED"),
    ],
)
def test_a_query_that_fails_is_an_error(status: dict[str, str], why: str) -> None:
    def call(
        service: str, action: str, params: Mapping[str, Any], region: str | None = None
    ) -> dict[str, Any]:
        return {"QueryExecutionId": "q", "QueryExecution": {"Status": status}}

    with pytest.raises(UnreadError, match=why):
        usage.read_usage("athena=trail", [OLD], UsageRequest(call=call))


class AthenaOfATable:
    """Athena over a table that has no call of any key; `table` and `regions` answer what is asked of it."""

    def __init__(self, table: dict[str, Any], partitions: Collection[str] = (), regions: str = "") -> None:
        self.table, self.partitions, self.text = table, partitions, ""
        self.regions = regions or "eu-central-1,us-east-1"

    def __call__(
        self, service: str, action: str, params: Mapping[str, Any], region: str | None = None
    ) -> dict[str, Any]:
        match action:
            case "StartQueryExecution":
                self.text = params["QueryString"]
                return {"QueryExecutionId": "q"}
            case "GetQueryExecution":
                return {"QueryExecution": {"Status": {"State": "SUCCEEDED"}}}
            case "GetQueryResults":
                shown = self.partitions if self.text.startswith("SHOW") else [*athena._COLUMNS][:1]
                return {"ResultSet": {"Rows": [{"Data": [{"VarCharValue": line}]} for line in shown]}}
            case "GetTableMetadata":
                assert params["CatalogName"] == "AwsDataCatalog"
                return {"TableMetadata": self.table}
            case _:
                return {"Regions": [{"RegionName": name} for name in self.regions.split(",")]}


def of_table(table: dict[str, Any], partitions: Collection[str] = (), **options: Any) -> Usage:
    request = UsageRequest(
        call=AthenaOfATable(table, partitions),
        clock=VirtualClock(NOW),
        since=NOW - timedelta(days=90),
        owners={OLD: ACCOUNT},
        **options,
    )
    (found,) = usage.read_usage("athena=audit.trail", [OLD], request)
    return found


def projected(**changes: str | None) -> dict[str, Any]:
    whole: dict[str, Any] = TABLE["GetTableMetadata"]["TableMetadata"]
    parameters = whole["Parameters"] | {name.replace("__", "."): value for name, value in changes.items()}
    return whole | {"Parameters": {name: value for name, value in parameters.items() if value is not None}}


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (projected(), ()),
        (
            projected(projection__region__values="us-east-1"),
            ("the table leaves out region eu-central-1",),
        ),
        (
            projected(projection__account__values="222233334444"),
            (f"the table leaves out account {ACCOUNT}",),
        ),
        (
            projected(
                storage__location__template="s3://b/AWSLogs/222233334444/CloudTrail/us-east-1/${timestamp}"
            ),
            ("the table leaves out region eu-central-1", f"the table leaves out account {ACCOUNT}"),
        ),
        (
            {"Parameters": {"location": "s3://b/AWSLogs/", "ignore.malformed.json": "TRUE"}},
            ("the table leaves out records that it can't read (ignore.malformed.json)",),
        ),
        ({"Parameters": {"location": "s3://b/AWSLogs/"}}, ()),
        (
            {"Parameters": {"location": f"s3://b/AWSLogs/{ACCOUNT}/CloudTrail/us-east-1/"}},
            ("the table leaves out region eu-central-1",),
        ),
        (
            projected(projection__timestamp__range="sometime,NOW"),
            ("since when the table reaches can't be read from its properties",),
        ),
        (
            projected(projection__timestamp__range="9999/99/99,NOW"),
            ("since when the table reaches can't be read from its properties",),
        ),
    ],
)
def test_what_a_table_leaves_out_makes_a_usage_partial(table: dict[str, Any], why: tuple[str, ...]) -> None:
    assert of_table(table).partial == tuple(sorted(why))


@pytest.mark.parametrize(
    ("partitions", "why"),
    [
        (["region=eu-central-1/day=1", "region=us-east-1/day=1"], ()),
        (["region=us-east-1/day=1"], ("the table leaves out region eu-central-1",)),
        ([], ()),
    ],
)
def test_partitions_that_were_added_are_listed(partitions: list[str], why: tuple[str, ...]) -> None:
    table = {"PartitionKeys": [{"Name": "region"}, {"Name": "day"}], "Parameters": {"location": "s3://b/x/"}}
    expected = why or (() if partitions else ("the table has no partition",))
    assert of_table(table, partitions).partial == expected


@pytest.mark.parametrize(
    ("span", "since", "until"),
    [
        ("2026/02/01,NOW", datetime(2026, 2, 1, tzinfo=UTC), NOW - timedelta(minutes=15)),
        ("NOW-10DAYS,NOW", NOW - timedelta(days=10), NOW - timedelta(minutes=15)),
        ("2025/01/01,2026/02/20", NOW - timedelta(days=90), datetime(2026, 2, 20, tzinfo=UTC)),
    ],
)
def test_a_usage_reaches_no_further_than_its_table(span: str, since: datetime, until: datetime) -> None:
    found = of_table(projected(projection__timestamp__range=span))
    assert (found.since, found.until) == (since, until)


def test_a_table_that_may_not_be_looked_at_makes_a_usage_partial() -> None:
    class Denied(AthenaOfATable):
        def __call__(
            self, service: str, action: str, params: Mapping[str, Any], region: str | None = None
        ) -> dict[str, Any]:
            if action == "GetTableMetadata":
                raise UnreadError("access denied: athena:GetTableMetadata")
            return super().__call__(service, action, params, region)

    request = UsageRequest(call=Denied({}), clock=VirtualClock(NOW), workgroup="w")
    (found,) = usage.read_usage("athena=trail", [OLD], request)
    assert found.partial == (
        "what the table covers could not be read: access denied: athena:GetTableMetadata",
    )


def test_it_needs_credentials() -> None:
    with pytest.raises(BadInputError, match="needs AWS credentials"):
        usage.read_usage("athena=trail", [OLD])


def ddl(**changes: Any) -> str:
    options: dict[str, Any] = {
        "table": "audit.trail",
        "location": "s3://bucket/prefix/",
        "accounts": ["222233334444", ACCOUNT],
        "regions": ["us-east-1"],
        "since": date(2025, 1, 1),
    }
    return athena.table_ddl(**(options | changes))


def test_the_table_projects_its_partitions() -> None:
    text = ddl(organization="o-abc")
    assert text.startswith("CREATE EXTERNAL TABLE `audit`.`trail` (")
    assert "'projection.account.values' = '111122223333,222233334444'" in text
    assert "'projection.timestamp.range' = '2025/01/01,NOW'" in text
    assert "'s3://bucket/prefix/AWSLogs/o-abc/${account}/CloudTrail/${region}/${timestamp}'" in text


def test_the_table_has_every_column_that_the_query_reads() -> None:
    created = sqlglot.parse_one(ddl(), read="athena")
    columns = {column.name.lower() for column in created.find_all(exp.ColumnDef)}
    bounds = UsageRequest(
        since=NOW, until=NOW, accounts=frozenset({ACCOUNT}), regions=frozenset({"us-east-1"})
    )
    (calls, *_) = sqlglot.parse_one(athena.query("audit.trail", [OLD], bounds), read="athena").find_all(
        exp.CTE
    )
    read = {column.parts[0].name for column in calls.find_all(exp.Column)}
    assert read <= columns
    assert {"account", "region", "timestamp"} <= read


@pytest.mark.parametrize(
    "changes",
    [
        {"location": "bucket"},
        {"location": "s3://b'ucket/x"},
        {"accounts": ["1'"]},
        {"regions": []},
        {"table": "x;y"},
        {"organization": "o'x"},
    ],
)
def test_a_table_of_nonsense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        ddl(**changes)
