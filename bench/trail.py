"""How fast an archive is read, beside the tools that people use for it: `make bench-trail`.

Generates its own archives deterministically (dense: the keys call in every file; sparse: in one of fifty; files
of 2 KB, 160 KB and 5 MB compressed), runs every contender in a process of its own, round after round, and
prints the ratios to bare inflating in the same round. `--write` puts them into docs/benchmarks.md.
"""

import argparse
import functools
import gzip
import importlib.metadata
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing import Pool
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).resolve().parents[1]
KEYS = ["AKIAWANTED0000000001", "AKIAWANTED0000000002"]
ACCOUNT = "111122223333"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
REGIONS = ("eu-central-1", "us-east-1")
AGENTS = (
    "Boto3/1.34.51 md/Botocore#1.34.51 ua/2.0 os/linux#6.1 md/arch#x86_64 lang/python#3.12.2 cfg/retry-mode#legacy",
    "aws-sdk-go-v2/1.18.0 os/linux lang/go#1.19.8 md/GOOS#linux md/GOARCH#amd64 api/ec2#1.19.12",
    "aws-sdk-java/2.20.1 Linux/5.4 OpenJDK_64-Bit_Server_VM/17 Java/17 vendor/Amazon.com_Inc. io/sync http/Apache",
    "aws-cli/2.15.30 md/awscrt#0.19.19 os/linux#5.15.0 lang/python#3.11.8 md/installer#exe md/command#s3.ls",
)
CALLS = (
    ("s3", "GetObject", '{"bucketName":"%s-data","Host":"%s-data.s3.amazonaws.com","key":"in/%s.parquet"}'),
    ("dynamodb", "GetItem", '{"tableName":"orders-%s","key":["id"],"owner":"%s","consistentRead":"%s"}'),
    (
        "ec2",
        "DescribeInstances",
        '{"instancesSet":{"items":[{"instanceId":"i-%s"}]},"filterSet":{"%s":"%s"}}',
    ),
    ("kms", "Decrypt", '{"encryptionContext":{"aws:s3:arn":"arn:aws:s3:::%s/%s"},"keyId":"%s"}'),
)
# Records in a file of about that size, and megabytes (inflated) to make of each.
SIZES = {"2 KB": (5, 60), "160 KB": (860, 1200), "5 MB": (27_500, 900)}
MB = 1_000_000


# The archive ------------------------------------------------------------------------------------------------


def generate(root: Path, dense: bool, records: int, megabytes: float, seed: int) -> int:
    """Write one archive; returns its inflated bytes."""
    rng = random.Random(f"{seed}/{dense}/{records}")
    when, size, number = BEGIN, 0, 0
    session = "ASIA" + _id(rng)
    while size < megabytes * MB:
        region = REGIONS[number % len(REGIONS)]
        when += timedelta(minutes=5) if region == REGIONS[0] else timedelta(0)
        wanted = dense or number % 50 == 7
        lines = [_record(rng, when, region, _who(rng, wanted, session)) for _ in range(records)]
        if wanted and number % 12 == 7:
            session = "ASIA" + _id(rng)
            lines.insert(0, _record(rng, when, region, KEYS[0], minted=session))
        text = f'{{"Records":[{",".join(lines)}]}}'.encode()
        folder = root / f"AWSLogs/{ACCOUNT}/CloudTrail/{region}/{when:%Y/%m/%d}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{ACCOUNT}_CloudTrail_{region}_{when:%Y%m%dT%H%MZ}_{number:016d}.json.gz"
        (folder / name).write_bytes(gzip.compress(text, 6, mtime=0))
        size += len(text)
        number += 1
    (root / "size").write_text(str(size))
    return size


def _who(rng: random.Random, wanted: bool, session: str) -> str | None:
    """Of ten calls of a dense archive one is a wanted key's or its session's; most others are roles'."""
    roll = rng.random()
    if wanted and roll < 0.1:
        return KEYS[0] if roll < 0.05 else KEYS[1] if roll < 0.08 else session
    return (
        None if roll < 0.3 else f"ASIAROLE{rng.randrange(400):012d}" if roll < 0.9 else "AKIAOTHER" + "0" * 11
    )


def _id(rng: random.Random) -> str:
    return "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))


def _record(rng: random.Random, when: datetime, region: str, key: str | None, minted: str = "") -> str:
    service, action, request = ("sts", "AssumeRole", "{}") if minted else CALLS[rng.randrange(len(CALLS))]
    time_ = when - timedelta(seconds=rng.randrange(30, 600))
    bits = f"{rng.getrandbits(256):064x}"
    host = int(bits[40], 16) % 3 if key in KEYS else int(bits[40:42], 16)
    asked = request % (bits[:8], bits[8:12], bits[12:28]) if not minted else request
    who = (
        f"user/app-{bits[0]}"
        if key is None or key[0:4] == "AKIA"
        else f"assumed-role/role-{bits[:2]}/i-{bits[2:19]}"
    )
    signed = f'"accessKeyId":"{key}",' if key else '"invokedBy":"lambda.amazonaws.com",'
    answer = f'{{"credentials":{{"accessKeyId":"{minted}","sessionToken":"HIDDEN"}}}}' if minted else "null"
    error = '"errorCode":"AccessDenied","errorMessage":"no permission",' if bits[30] == "0" else ""
    return (
        f'{{"eventVersion":"1.09","userIdentity":{{"type":"AssumedRole","principalId":"AROA{bits[:17].upper()}:s",'
        f'"arn":"arn:aws:iam::{ACCOUNT}:{who}","accountId":"{ACCOUNT}",{signed}"sessionContext":{{"sessionIssuer":'
        f'{{"type":"Role","principalId":"AROA{bits[:17].upper()}","arn":"arn:aws:iam::{ACCOUNT}:{who}","accountId":'
        f'"{ACCOUNT}"}},"attributes":{{"creationDate":"{time_:%Y-%m-%dT%H:00:00Z}","mfaAuthenticated":"false"}}}}}},'
        f'"eventTime":"{time_:%Y-%m-%dT%H:%M:%SZ}","eventSource":"{service}.amazonaws.com","eventName":"{action}",'
        f'"awsRegion":"{region}","sourceIPAddress":"10.0.{host}.7",'
        f'"userAgent":"{AGENTS[int(bits[42], 16) % 4]}",{error}"requestParameters":{asked},"responseElements":{answer},'
        f'"additionalEventData":{{"SignatureVersion":"SigV4","CipherSuite":"TLS_AES_128_GCM_SHA256",'
        f'"bytesTransferredIn":0,"bytesTransferredOut":{int(bits[44:48], 16)},"x-amz-id-2":"{bits[:44]}"}},'
        f'"requestID":"{bits[48:64].upper()}","eventID":"{uuid.UUID(int=rng.getrandbits(128), version=4)}",'
        f'"readOnly":true,"resources":[{{"accountId":"{ACCOUNT}","type":"AWS::S3::Object","ARN":'
        f'"arn:aws:s3:::data/{bits[20:40]}"}}],"eventType":"AwsApiCall","managementEvent":false,'
        f'"recipientAccountId":"{ACCOUNT}","eventCategory":"Data","tlsDetails":{{"tlsVersion":"TLSv1.3",'
        f'"cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"{service}.{region}.amazonaws.com"}}}}'
    )


# The contenders: each reads the files and counts the calls that the keys signed themselves -------------------

Files = list[Path]


def inflate(files: Files) -> Iterator[bytes]:
    from isal import isal_zlib

    for path in files:
        data, parts = path.read_bytes(), []
        while data:
            member = isal_zlib.decompressobj(wbits=31)
            parts.append(member.decompress(data))
            data = member.unused_data
        yield parts[0] if len(parts) == 1 else b"".join(parts)


def bare_isal(files: Files) -> Counter[str] | None:
    for _ in inflate(files):
        pass
    return None


def ours(files: Files, processes: int) -> Counter[str]:
    from sparekey import usage

    found = usage.read(f"archive={_root(files[0])}", KEYS, usage.Request(processes=processes))
    return Counter({entry.key: entry.calls for entry in found})


def _count(records: Iterable[Any]) -> Counter[str]:
    found: Counter[str] = Counter()
    for record in records:
        key = (record.get("userIdentity") or {}).get("accessKeyId")
        if key in KEYS:
            found[key] += 1
    return found


def json_loads(files: Files) -> Counter[str]:
    found: Counter[str] = Counter()
    for path in files:
        found += _count(json.loads(zlib.decompress(path.read_bytes(), 31))["Records"])
    return found


def orjson_loads(files: Files) -> Counter[str]:
    import orjson

    found: Counter[str] = Counter()
    for text in inflate(files):
        found += _count(orjson.loads(text)["Records"])
    return found


def pysimdjson(files: Files) -> Counter[str]:
    import simdjson

    found: Counter[str] = Counter()
    parser = simdjson.Parser()
    for text in inflate(files):
        document = parser.parse(text)
        for record in document["Records"]:
            key = record["userIdentity"].get("accessKeyId")
            if key in KEYS:
                found[key] += 1
        del document, record
    return found


def msgspec_whole(files: Files) -> Counter[str]:
    import msgspec

    from sparekey.usage.records import Record

    decoder = msgspec.json.Decoder(dict[str, list[Record]])
    found: Counter[str] = Counter()
    for text in inflate(files):
        for record in decoder.decode(text)["Records"]:
            if record.userIdentity and record.userIdentity.accessKeyId in KEYS:
                found[record.userIdentity.accessKeyId] += 1
    return found


def duckdb(files: Files) -> Counter[str]:
    import duckdb as duck

    names = ", ".join(f"'{path}'" for path in files)
    maximum = max(map(len, inflate(files))) + 1
    rows = duck.sql(
        "SET threads = 1; SELECT r.userIdentity.accessKeyId AS k, count(*) FROM (SELECT unnest(Records) AS r FROM"
        f" read_json([{names}], columns = {{Records: 'STRUCT(userIdentity STRUCT(accessKeyId VARCHAR))[]'}},"
        f" maximum_object_size = {maximum})) WHERE k IN {tuple(KEYS)} GROUP BY k"
    ).fetchall()
    return Counter(dict(rows))


def polars(files: Files) -> Counter[str]:
    import polars as pl

    found: Counter[str] = Counter()
    schema = {"Records": pl.List(pl.Struct({"userIdentity": pl.Struct({"accessKeyId": pl.String})}))}
    for text in inflate(files):
        keys = pl.read_json(text, schema=schema).explode("Records").unnest("Records").unnest("userIdentity")
        found += Counter(key for key in keys["accessKeyId"].to_list() if key in KEYS)
    return found


def trailscraper(files: Files) -> Counter[str]:
    from trailscraper.cloudtrail import LogFile

    records = [one for path in files for one in LogFile(str(path)).records()]
    return _count(one.raw_source for one in records)


def zcat_jq(files: Files) -> Counter[str]:
    query = '.Records[].userIdentity.accessKeyId // empty | select(. == ("' + '","'.join(KEYS) + '"))'
    found: Counter[str] = Counter()
    for start in range(0, len(files), 500):
        zcat = subprocess.Popen(["zcat", *map(str, files[start : start + 500])], stdout=subprocess.PIPE)
        jq = subprocess.run(["jq", "-r", query], stdin=zcat.stdout, capture_output=True, check=True)
        zcat.wait()
        found += Counter(jq.stdout.decode().split())
    return found


CONTENDERS: dict[str, tuple[Callable[[Files], Counter[str] | None], float]] = {
    # How each is called, and the megabytes of each archive that it is given (0: all).
    "bare isal inflate": (bare_isal, 0),
    "sparekey": (functools.partial(ours, processes=1), 0),
    "sparekey, 2 processes": (functools.partial(ours, processes=2), 0),
    "msgspec, typed, every file": (msgspec_whole, 300),
    "pysimdjson": (pysimdjson, 300),
    "orjson": (orjson_loads, 150),
    "polars": (polars, 150),
    "json.loads after zlib": (json_loads, 150),
    "DuckDB read_json": (duckdb, 60),
    "trailscraper": (trailscraper, 30),
    "zcat | jq": (zcat_jq, 60),
}


def _root(path: Path) -> Path:
    return next(parent.parent for parent in path.parents if parent.name == "AWSLogs")


def run_one(name: str, root: Path) -> None:
    """In a process of its own: run one contender and print what it took."""
    call, limit = CONTENDERS[name]
    files = sorted(root.rglob("*.gz"), key=lambda path: path.name.split("_")[3:])
    size = int((root / "size").read_text())
    if limit and limit * MB < size:
        files = files[: max(1, int(len(files) * limit * MB / size))]
        size = sum(map(len, inflate(files)))
    call(files[:1]) if not name.startswith("sparekey") else __import__("sparekey.usage.sources.archive")
    wall, cpu = time.perf_counter(), _cpu()
    counted = call(files)
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    rss = [
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print(json.dumps({"wall": wall, "cpu": cpu, "size": size, "rss": rss, "counted": counted}))


def _cpu() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


# The table --------------------------------------------------------------------------------------------------


def measure(root: Path, rounds: int, only: list[str]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Every contender on every archive, in turn, so that a slow minute of the machine is everyone's."""
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number in range(rounds):
        for archive in sorted(path.name for path in root.iterdir() if path.is_dir()):
            for name in only or CONTENDERS:
                command = [sys.executable, __file__, "--one", name, "--data", str(root / archive)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                    continue
                found = json.loads(done.stdout.splitlines()[-1])
                results.setdefault(archive, {}).setdefault(name, []).append(found)
                print(f"round {number + 1}, {archive}, {name}: {_speed(found):,.0f} MB/s", file=sys.stderr)
    return results


def _speed(found: dict[str, Any]) -> float:
    return float(found["size"]) / MB / float(found["wall"])


def table(results: dict[str, dict[str, list[dict[str, Any]]]]) -> Iterator[str]:
    """Markdown: median MB/s and, as ratios to bare inflating in the same round, median and spread."""
    for archive, found in results.items():
        yield f"\n**{archive} files**\n"
        yield "| reader | MB/s | of bare inflate (spread) | memory |"
        yield "|---|---:|---:|---:|"
        base = [_speed(one) for one in found["bare isal inflate"]]
        for name, runs in found.items():
            ratios = [_speed(one) / bare for one, bare in zip(runs, base, strict=False)]
            own, child = (max(one["rss"][index] for one in runs) for index in (0, 1))
            memory = own + 2 * child if "2 processes" in name else max(own, child)
            yield (
                f"| {name} | {statistics.median(map(_speed, runs)):,.0f} | {statistics.median(ratios):.2f}"
                f" ({min(ratios):.2f} to {max(ratios):.2f}) | {memory:,.0f} MB |"
            )
        yield from _verdict(found)


def _verdict(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for one, other, said in (
        ("sparekey", "json.loads after zlib", "times `json.loads` after `zlib`"),
        ("sparekey, 2 processes", "sparekey", "times one process with two"),
    ):
        if one in found and other in found:
            ratios = [_speed(a) / _speed(b) for a, b in zip(found[one], found[other], strict=False)]
            yield f"\n{statistics.median(ratios):.2f} {said} ({min(ratios):.2f} to {max(ratios):.2f})."


def machine() -> str:
    """What it was measured on."""
    names = ("isal", "msgspec", "ahocorasick-rs", "orjson", "pysimdjson", "polars", "duckdb", "trailscraper")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} processors ({platform.machine()}), {versions}."
    )


def write(lines: list[str]) -> None:
    """Replace our section of docs/benchmarks.md."""
    page = HOUSE / "docs" / "benchmarks.md"
    begin, end = "<!-- bench-trail begins -->", "<!-- bench-trail ends -->"
    text = page.read_text() if page.exists() else "# Benchmarks\n"
    if begin not in text:
        text += f"\n{begin}\n{end}\n"
    head, rest = text.split(begin, 1)
    page.write_text(head + "\n".join([begin, *lines, end]) + rest.split(end, 1)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HOUSE / ".bench" / "trail")
    parser.add_argument("--scale", type=float, default=1.0, help="of the archives' sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], choices=CONTENDERS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        run_one(asked.one, asked.data)
        return
    todo = [
        (asked.data / f"{'dense' if dense else 'sparse'}, {name}", dense, records, size * asked.scale, 1)
        for dense in (True, False)
        for name, (records, size) in SIZES.items()
    ]
    with Pool() as pool:
        pool.starmap(generate, [one for one in todo if not (one[0] / "size").exists()])
    lines = list(table(measure(asked.data, asked.rounds, asked.only)))
    print("\n".join(lines))
    if asked.write:
        write(["\n## Reading an archive (`make bench-trail`)\n", INTRODUCTION, machine(), *lines, ""])


INTRODUCTION = """Archives are generated, always the same: records as a busy account's trail has them (most calls by
roles' sessions, a third by services), about 1.4 KB each, files of 2 KB, 160 KB and 5 MB compressed. In a *dense* one
each file holds calls of the two keys asked for (one call in ten) and sessions that they mint; in a *sparse* one a
file of fifty does. Every reader runs in a process of its own, in turn, round after round; ratios are to bare
`isal` inflating of the same files in the same round. Readers that are slow get the first part of the files. Only
sparekey also joins sessions, drops events delivered twice and groups consumers; the others count records.
"""

if __name__ == "__main__":
    main()
