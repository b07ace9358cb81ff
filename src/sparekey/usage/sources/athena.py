"""Athena over a CloudTrail table: the same question as one SQL query, where a machine is too little.

The table is read twice: once for the sessions that were minted, once for the calls. Sources:
https://docs.aws.amazon.com/athena/latest/ug/create-cloudtrail-table-partition-projection.html and
https://docs.aws.amazon.com/athena/latest/APIReference/API_StartQueryExecution.html
"""

import re
import uuid
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from sparekey.errors import BadInputError, SparekeyError, UnreadError
from sparekey.model import Usage
from sparekey.usage.aggregation import UsageAggregator, UseTotals, seconds
from sparekey.usage.archive.layout import AFTER, BEFORE
from sparekey.usage.records import call_origin
from sparekey.usage.request import AwsCall, ReadProgress, UsageRequest
from sparekey.usage.table_coverage import UNBOUNDED, TableCoverage, table_coverage

_NAME = re.compile(r"(?:([A-Za-z_]\w{0,127})\.)?([A-Za-z_]\w{0,127})", re.ASCII)
_WORD = re.compile(r"[\w-]+", re.ASCII)
_LAG = timedelta(minutes=15)
_CHAIN = 8  # sessions that mint sessions; each lives an hour
_POLL = 2.0
NOTES = (f"of chained sessions, {_CHAIN} links are followed",)
_COLUMNS = (
    *("key", "own", "useragent", "sourceipaddress", "eventsource", "awsregion", "day"),
    *("calls", "errors", "first_seen", "last_seen", "actions", "hours", "sessions"),
)


def read(spec: str, keys: Collection[str], request: UsageRequest) -> tuple[Usage, ...]:
    """Read what the table shows of the keys; raises BadInputError for a name that is no table's."""
    if request.call is None:
        raise BadInputError("Athena needs AWS credentials", "Name a profile, or an archive.")
    text = query(spec, keys, request)
    # A query that takes long shows nothing of the time since it began.
    began = request.clock.now() - _LAG
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in _query_result(request.call, text, request)]
    shown = _check_coverage(request.call, spec, keys, request)
    return usages(rows, spec, keys, replace(request, until=min(began, request.until or began)), shown)


def _check_coverage(call: AwsCall, spec: str, keys: Collection[str], request: UsageRequest) -> TableCoverage:
    """What the table covers; what can't be found out of it makes the usage partial."""
    try:
        match = _NAME.fullmatch(spec)
        asked = {"CatalogName": "AwsDataCatalog", "DatabaseName": (match and match[1]) or "default"}
        asked["TableName"] = match[2] if match else spec
        if request.workgroup:
            asked["WorkGroup"] = request.workgroup
        table = call("athena", "GetTableMetadata", asked).get("TableMetadata", {})
        partitions: list[str] = []
        parameters = table.get("Parameters") or {}
        if table.get("PartitionKeys") and str(parameters.get("projection.enabled")).lower() != "true":
            name = _table(spec).replace('"', "`")
            rows = _query_result(call, f"SHOW PARTITIONS {name}", request, names=0)
            partitions = [row[0] for row in rows if row and row[0]]
        regions = request.regions or {
            region["RegionName"] for region in call("ec2", "DescribeRegions", {})["Regions"]
        }
    except SparekeyError as error:
        return TableCoverage(partial=(f"what the table covers could not be read: {error.message}",))
    accounts = {account for key in keys if (account := request.owners.get(key))}
    return table_coverage(table, partitions, regions, request.accounts or accounts, request.clock.now())


def query(table: str, keys: Collection[str], request: UsageRequest) -> str:
    """The SQL (Athena's, which is Trino's) that asks for the usage of the keys."""
    key_list = ", ".join(_text(key) for key in sorted(keys))
    links = "".join(
        f",\nlink{n} AS (SELECT link{n - 1}.*, ELEMENT_AT(links, p{n - 1}) AS p{n} FROM link{n - 1})"  # noqa: S608 - numbers
        for n in range(2, _CHAIN + 1)
    )
    owner = " ".join(f"WHEN p{n} IN ({key_list}) THEN p{n}" for n in range(_CHAIN + 1))
    counted = f"eventtime >= {_text(_time(request.since))}" if request.since else "TRUE"
    return f"""WITH calls AS (
  SELECT eventid, eventtime, eventsource, eventname, awsregion, sourceipaddress, useragent,
    useridentity.accesskeyid AS p0, COALESCE(errorcode, '') <> '' AS failed,
    CASE WHEN COALESCE(errorcode, '') = ''
      THEN JSON_EXTRACT_SCALAR(responseelements, '$.credentials.accessKeyId') END AS minted
  FROM {_table(table)}
  WHERE {" AND ".join(_conditions(key_list, request))}
),
mints AS (SELECT minted, MIN(p0) AS principal FROM calls WHERE minted LIKE 'ASIA%' GROUP BY minted),
known AS (SELECT MAP_FROM_ENTRIES(ARRAY_AGG(ROW(minted, principal))) AS links FROM mints),
link1 AS (SELECT calls.*, known.links, ELEMENT_AT(links, p0) AS p1 FROM calls CROSS JOIN known){links},
owned AS (SELECT link{_CHAIN}.*, CASE {owner} END AS owner FROM link{_CHAIN})
SELECT owner, p0 = owner AS own, useragent, sourceipaddress, eventsource, awsregion,
  SUBSTR(eventtime, 1, 10) AS day,
  COUNT(DISTINCT eventid) AS calls, COUNT(DISTINCT CASE WHEN failed THEN eventid END) AS errors,
  MIN(eventtime) AS first_seen, MAX(eventtime) AS last_seen,
  ARRAY_JOIN(ARRAY_AGG(DISTINCT eventname), ',') AS actions,
  ARRAY_JOIN(ARRAY_AGG(DISTINCT SUBSTR(eventtime, 12, 2)), ',') AS hours,
  COUNT(DISTINCT CASE WHEN minted LIKE 'ASIA%' THEN minted END) AS sessions
FROM owned
WHERE owner IS NOT NULL AND {counted}
GROUP BY 1, 2, 3, 4, 5, 6, 7
ORDER BY 1, 2, 3, 4, 5, 6, 7"""  # noqa: S608 - keys are quoted, the table's name is checked


def _conditions(key_list: str, request: UsageRequest) -> Iterator[str]:
    """Which rows are read: by who signed, by time, and by the partitions of the table that `table_ddl` makes."""
    yield f"(useridentity.accesskeyid IN ({key_list}) OR useridentity.accesskeyid LIKE 'ASIA%')"
    if request.since:
        begin = request.since - BEFORE
        yield f"eventtime >= {_text(_time(begin))}"
        yield f'"timestamp" >= {_text(f"{begin:%Y/%m/%d}")}'
    if request.until:
        yield f"eventtime < {_text(_time(request.until))}"
        yield f'"timestamp" <= {_text(f"{request.until + AFTER:%Y/%m/%d}")}'
    for column, values in (("account", request.accounts), ("region", request.regions)):
        if values:
            yield f"{column} IN ({', '.join(_text(value) for value in sorted(values))})"


def usages(
    rows: Collection[dict[str, Any]],
    table: str,
    keys: Collection[str],
    request: UsageRequest,
    shown: TableCoverage = UNBOUNDED,
) -> tuple[Usage, ...]:
    """The usages in the query's rows."""
    fold = UsageAggregator()
    for row in rows:
        place = call_origin(row["useragent"], row["sourceipaddress"], row["eventsource"], row["awsregion"])
        first, last = (_seconds(row[name]) for name in ("first_seen", "last_seen"))
        own = last if row["own"] in {True, "true"} else None
        day = (date.fromisoformat(row["day"]) - date(1970, 1, 1)).days
        hours = sum({1 << int(hour) for hour in row["hours"].split(",")})
        seen = UseTotals(first, last, own, set((row["actions"] or "unknown").split(",")))
        fold.count((row["key"], place), seen, {day: (int(row["calls"]), hours)}, int(row["errors"]))
        fold.sessions(row["key"], int(row["sessions"]))
    # Where nothing bounds the query, what it covers is known from the first call that it found.
    begin = min((datetime.fromisoformat(row["first_seen"]) for row in rows), default=None)
    since = [time for time in (request.since or begin, shown.since) if time]
    until = [time for time in (request.clock.now() - _LAG, request.until, shown.until) if time]
    for key in keys:
        for why in shown.partial:
            fold.partial(key, why)
    return fold.usages(keys, f"athena {table}", max(since, default=None), min(until), NOTES)


def _query_result(
    call: AwsCall, text: str, request: UsageRequest, names: int = 1
) -> Iterator[list[str | None]]:
    """Run the query and yield the values of each row; raises UnreadError.

    The first row of the first page names the columns, but not where a statement only shows something (`names` 0).
    """
    # Without its SDK's help Athena wants the token; a repeated request then starts no second query.
    asked: dict[str, Any] = {"QueryString": text, "ClientRequestToken": str(uuid.uuid4())}
    if request.workgroup:
        asked["WorkGroup"] = request.workgroup
    if request.output:
        asked["ResultConfiguration"] = {"OutputLocation": request.output}
    run = call("athena", "StartQueryExecution", asked)["QueryExecutionId"]
    state = "QUEUED"
    while state in {"QUEUED", "RUNNING"}:
        execution = call("athena", "GetQueryExecution", {"QueryExecutionId": run})["QueryExecution"]
        state = execution["Status"]["State"]
        if state in {"QUEUED", "RUNNING"}:
            request.clock.sleep(_POLL)
    if state != "SUCCEEDED":
        why = execution["Status"].get("StateChangeReason") or state
        raise UnreadError(f"Athena did not answer: {why}", f"The query is {run} in Athena's console.")
    progress = ReadProgress(bytes=execution.get("Statistics", {}).get("DataScannedInBytes", 0))
    request.progress(progress)
    token: dict[str, str] = {}
    skip = names
    while True:
        page = call("athena", "GetQueryResults", {"QueryExecutionId": run, "MaxResults": 1000, **token})
        for row in page["ResultSet"]["Rows"][skip:]:
            yield [value.get("VarCharValue") for value in row["Data"]]
        if not page.get("NextToken"):
            return
        token, skip = {"NextToken": page["NextToken"]}, 0


def table_ddl(
    table: str,
    location: str,
    accounts: Collection[str],
    regions: Collection[str],
    since: date,
    organization: str = "",
) -> str:
    """The statement that makes the table: partitions by account, region and day are projected, none is added.

    `location` is `s3://bucket/prefix`, above `AWSLogs`; raises BadInputError.
    """
    bucket = location.rstrip("/")
    if not re.fullmatch(r"s3://[a-z0-9.-]{3,63}(?:/[\w!.*()/=-]+)?", bucket, re.ASCII):
        raise BadInputError(f"{location} is no place of a trail", "Write s3://bucket or s3://bucket/prefix.")
    for word in (*accounts, *regions, *filter(None, [organization])):
        if not _WORD.fullmatch(word):
            raise BadInputError(f"{word!r} is no account, region or organization id")
    if not accounts or not regions:
        raise BadInputError(
            "a table needs its accounts and regions", "Name each with --usage-account and --usage-region."
        )
    root = f"{bucket}/AWSLogs/{organization + '/' if organization else ''}"
    return _DDL.format(
        table=_table(table).replace('"', "`"),
        root=root,
        accounts=",".join(sorted(accounts)),
        regions=",".join(sorted(regions)),
        since=f"{since:%Y/%m/%d}",
    )


_DDL = """CREATE EXTERNAL TABLE {table} (
  eventversion STRING,
  useridentity STRUCT<
    type: STRING, principalid: STRING, arn: STRING, accountid: STRING, invokedby: STRING,
    accesskeyid: STRING, username: STRING,
    sessioncontext: STRUCT<
      attributes: STRUCT<mfaauthenticated: STRING, creationdate: STRING>,
      sessionissuer: STRUCT<
        type: STRING, principalid: STRING, arn: STRING, accountid: STRING, username: STRING>>>,
  eventtime STRING,
  eventsource STRING,
  eventname STRING,
  awsregion STRING,
  sourceipaddress STRING,
  useragent STRING,
  errorcode STRING,
  errormessage STRING,
  requestparameters STRING,
  responseelements STRING,
  additionaleventdata STRING,
  requestid STRING,
  eventid STRING,
  readonly STRING,
  eventtype STRING,
  recipientaccountid STRING,
  sharedeventid STRING,
  vpcendpointid STRING
)
PARTITIONED BY (account STRING, region STRING, `timestamp` STRING)
ROW FORMAT SERDE 'org.apache.hive.hcatalog.data.JsonSerDe'
STORED AS INPUTFORMAT 'com.amazon.emr.cloudtrail.CloudTrailInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION '{root}'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.account.type' = 'enum',
  'projection.account.values' = '{accounts}',
  'projection.region.type' = 'enum',
  'projection.region.values' = '{regions}',
  'projection.timestamp.type' = 'date',
  'projection.timestamp.format' = 'yyyy/MM/dd',
  'projection.timestamp.interval' = '1',
  'projection.timestamp.interval.unit' = 'DAYS',
  'projection.timestamp.range' = '{since},NOW',
  'storage.location.template' = '{root}${{account}}/CloudTrail/${{region}}/${{timestamp}}'
)"""


def _table(name: str) -> str:
    match = _NAME.fullmatch(name)
    if not match:
        raise BadInputError(f"{name!r} is no table name", "Write TABLE or DATABASE.TABLE.")
    return f'"{match[1]}"."{match[2]}"' if match[1] else f'"{match[2]}"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _time(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _seconds(text: str) -> int:
    return seconds(datetime.fromisoformat(text)) or 0
