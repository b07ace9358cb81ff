"""How fast an archive is read, beside the tools that people use for it: `make bench-trail`.

Generates its own archives deterministically (dense: the keys call in every file; sparse: in one of fifty;
files of 2 KB, 160 KB and 5 MB compressed), runs every contender in a process of its own, round after round, and
prints the ratios to bare inflating in the same round. `--write` puts them into docs/explanation/benchmarks.md.
"""

import argparse
import functools
import gzip
import importlib.metadata
import json
import multiprocessing
import os
import platform
import random
import re
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
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).resolve().parents[1]
KEYS = ["AKIAWANTED0000000001", "AKIAWANTED0000000002"]
ACCOUNT = "111122223333"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
REGIONS = ("eu-central-1", "us-east-1")
PACKAGES = (
    *("isal", "msgspec", "ahocorasick-rs"),  # ours
    *("orjson", "pysimdjson", "polars", "duckdb", "trailscraper"),
)
TEMPLATES = HOUSE / "tests" / "data" / "cloudtrail"
# Records in a file of about that size, and megabytes (inflated) to make of each.
SIZES = {"2 KB": (5, 240), "160 KB": (1000, 2000), "5 MB": (36_000, 1800)}
MB = 1_000_000


# The archive ------------------------------------------------------------------------------------------------


def generate(root: Path, dense: bool, records: int, megabytes: float, seed: int) -> int:
    """Write one archive; returns its inflated bytes."""
    rng = random.Random(f"{seed}/{dense}/{records}")
    made = Records(rng)
    when, size, number = BEGIN, 0, 0
    while size < megabytes * MB:
        region = REGIONS[number % len(REGIONS)]
        when += timedelta(minutes=5) if region == REGIONS[0] else timedelta(0)
        lines = made.some(records, when, dense or number % 50 == 7)
        text = f'{{"Records":[{",".join(lines)}]}}'.encode()
        folder = root / f"AWSLogs/{ACCOUNT}/CloudTrail/{region}/{when:%Y/%m/%d}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{ACCOUNT}_CloudTrail_{region}_{when:%Y%m%dT%H%MZ}_{number:016d}.json.gz"
        (folder / name).write_bytes(gzip.compress(text, 6, mtime=0))
        size += len(text)
        number += 1
    (root / "size").write_text(str(size))
    return size


class Records:
    """Real records with other ids, times and keys, in runs as they came."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._session = self._new_session()
        paths = sorted(TEMPLATES.rglob("*.gz"))
        self._templates = [
            _template(record)
            for path in paths
            for record in json.loads(gzip.decompress(path.read_bytes()))["Records"]
        ]

    def some(self, count: int, when: datetime, wanted: bool) -> Iterator[str]:
        """So many records of the ten minutes before a time."""
        at = 0
        for number in range(count):
            if number % 20 == 0:
                at = self._rng.randrange(len(self._templates))
            yield self._fill(self._templates[(at + number) % len(self._templates)], when, self._who(wanted))

    def _who(self, wanted: bool) -> str:
        """One signed call in twenty is a wanted key's or its session's; most others are roles'."""
        roll = self._rng.random()
        if wanted and roll < 0.05:
            return KEYS[0] if roll < 0.025 else KEYS[1] if roll < 0.04 else self._session
        return f"ASIAROLE{self._rng.randrange(400):012d}" if roll < 0.9 else "AKIAOTHER" + "0" * 11

    def _fill(self, template: list[str], when: datetime, key: str) -> str:
        bits = self._rng.getrandbits
        values = {
            "key": key,
            "time": (when - timedelta(seconds=30 + bits(9))).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "event": str(uuid.UUID(int=bits(128), version=4)),
            "request": str(uuid.UUID(int=bits(128), version=4)),
            "session": self._new_session() if "session" in template else "",
        }
        if values["session"] and key in KEYS:
            self._session = values["session"]
        return "".join(values.get(part, part) if odd else part for odd, part in _odd(template))

    def _new_session(self) -> str:
        return "ASIA" + "".join(self._rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))


def _odd(parts: list[str]) -> Iterator[tuple[int, str]]:
    return ((index % 2, part) for index, part in enumerate(parts))


def _template(record: dict[str, Any]) -> list[str]:
    """Constant texts and, between them, the names of what differs from record to record."""
    record |= {"eventID": "\0event\0", "requestID": "\0request\0", "eventTime": "\0time\0"}
    if "accessKeyId" in (record.get("userIdentity") or {}):
        record["userIdentity"]["accessKeyId"] = "\0key\0"
    if isinstance((record.get("responseElements") or {}).get("credentials"), dict):
        record["responseElements"]["credentials"]["accessKeyId"] = "\0session\0"
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=False)
    # The account's own keys would be taken for wanted ones' neighbours.
    return re.sub(r"A[SK]IATFQ[RZ]7[A-Z0-9]{12}", "AKIAOTHER" + "0" * 11, text).split("\\u0000")


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


def bare_isal_twice(files: Files) -> None:
    """What the machine itself gives for a second process: the two share a memory bus."""
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=bare_isal, args=(files[half::2],)) for half in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()


def ours(files: Files, processes: int) -> Counter[str]:
    from sparekey import usage

    found = usage.read_usage(f"archive={_root(files[0])}", KEYS, usage.UsageRequest(processes=processes))
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

    from sparekey.usage.records import TrailRecord

    decoder = msgspec.json.Decoder(dict[str, list[TrailRecord]])
    found: Counter[str] = Counter()
    for text in inflate(files):
        for record in decoder.decode(text)["Records"]:
            if record.userIdentity and record.userIdentity.accessKeyId in KEYS:
                found[record.userIdentity.accessKeyId] += 1
    return found


def duckdb(files: Files) -> Counter[str]:
    import duckdb as duck

    names = ", ".join(f"'{path}'" for path in files)
    maximum = max(map(_inflated, files)) + 1
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


BARE, OURS = "bare isal inflate", "sparekey"
CONTENDERS: dict[str, tuple[Callable[[Files], Counter[str] | None], float]] = {
    # How each is called, and the megabytes of each archive that it is given (0: all).
    BARE: (bare_isal, 0),
    f"{BARE}, 2 processes": (bare_isal_twice, 0),
    OURS: (functools.partial(ours, processes=1), 0),
    f"{OURS}, 2 processes": (functools.partial(ours, processes=2), 0),
    "msgspec, typed, every file": (msgspec_whole, 300),
    "pysimdjson": (pysimdjson, 300),
    "orjson": (orjson_loads, 150),
    "polars": (polars, 150),
    "json.loads after zlib": (json_loads, 150),
    "DuckDB read_json": (duckdb, 60),
    "trailscraper": (trailscraper, 30),
    "zcat, jq": (zcat_jq, 60),
}


def _root(path: Path) -> Path:
    return next(parent.parent for parent in path.parents if parent.name == "AWSLogs")


def _inflated(path: Path) -> int:
    """The size that a gzip file of one member tells at its end: reading it would warm the allocator up."""
    return int.from_bytes(path.read_bytes()[-4:], "little")


def run_one(name: str, root: Path) -> None:
    """In a process of its own: run one contender and print what it took."""
    call, limit = CONTENDERS[name]
    files = sorted(root.rglob("*.gz"), key=lambda path: path.name.split("_")[3:])
    size = int((root / "size").read_text())
    if limit and limit * MB < size:
        files = files[: max(1, int(len(files) * limit * MB / size))]
        size = sum(map(_inflated, files))
    call(files[:1]) if not name.startswith(OURS) else __import__("sparekey.usage.sources.archive")
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


def _speed(found: dict[str, Any], clock: str = "cpu") -> float:
    """Megabytes in a second of processor time, which a busy machine changes least, or of the wall clock."""
    return float(found["size"]) / MB / float(found[clock])


def table(results: dict[str, dict[str, list[dict[str, Any]]]]) -> Iterator[str]:
    """Markdown: median MB/s and, as ratios to bare inflating in the same round, median and spread."""
    for archive, found in results.items():
        yield f"\n**{archive} files**\n"
        yield "| reader | MB/s of processor time | of bare inflate (spread) | memory |"
        yield "|---|---:|---:|---:|"
        base = [_speed(one) for one in found[BARE]]
        for name, runs in found.items():
            ratios = [_speed(one) / bare for one, bare in zip(runs, base, strict=False)]
            own, child = (max(one["rss"][index] for one in runs) for index in (0, 1))
            memory = own + 2 * child if "2 processes" in name else max(own, child)
            yield (
                f"| {name} | {statistics.median(map(_speed, runs)):,.0f} | {statistics.median(ratios):.2f}"
                f" ({min(ratios):.2f} to {max(ratios):.2f}) | {memory:,.0f} MB |"
            )
        yield from _verdict(archive, found)


def _verdict(archive: str, found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Each goal with what was reached."""
    floor = 0.5 if archive.startswith("dense") else 0.6
    yield ""
    for one, other, clock, goal, result in (
        (OURS, BARE, "cpu", floor, "of bare inflating"),
        (OURS, "json.loads after zlib", "cpu", 5, "times `json.loads` after `zlib`"),
        (f"{OURS}, 2 processes", OURS, "wall", 1.85, "times one process with two, by the wall clock"),
        (f"{BARE}, 2 processes", BARE, "wall", None, "times one process with two: bare inflating itself"),
    ):
        if one in found and other in found:
            ratios = [
                _speed(a, clock) / _speed(b, clock) for a, b in zip(found[one], found[other], strict=False)
            ]
            reached = statistics.median(ratios)
            received = f"; goal {goal}: {'reached' if reached >= goal else 'missed'}" if goal else ""
            yield f"- {reached:.2f} {result} ({min(ratios):.2f} to {max(ratios):.2f}){received}."
    if OURS in found:
        mine = statistics.median(map(_speed, found[OURS]))
        ahead = [
            name
            for name, runs in found.items()
            if not name.startswith((OURS, BARE)) and statistics.median(map(_speed, runs)) > mine
        ]
        yield f"- Ahead of every other reader{' but ' + ' and '.join(ahead) if ahead else ''}."


def machine() -> str:
    """What it was measured on."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} processors ({platform.machine()}), {versions}."
    )


def write(lines: list[str]) -> None:
    """Replace our section of docs/explanation/benchmarks.md."""
    page = HOUSE / "docs" / "explanation" / "benchmarks.md"
    begin, end = "<!-- bench-trail begins -->", "<!-- bench-trail ends -->"
    text = page.read_text() if page.exists() else "# Benchmarks\n"
    if begin not in text:
        text += f"\n{begin}\n{end}\n"
    head, rest = text.split(begin, 1)
    page.write_text(head + "\n".join([begin, *lines, end]) + rest.split(end, 1)[1])


def install_and_run(arguments: list[str]) -> None:
    """Run again in an environment that has every reader."""
    home = HOUSE / ".bench" / "trail-venv"
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    here = dict(os.environ, PYTHONPATH=str(HOUSE / "src"))
    subprocess.run([str(python), __file__, *arguments], env=here, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HOUSE / ".bench" / "trail")
    parser.add_argument("--scale", type=float, default=1.0, help="of the archives' sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], choices=CONTENDERS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--install", action="store_true", help="the readers, under .bench, and run there")
    asked = parser.parse_args()
    if asked.install:
        install_and_run([one for one in sys.argv[1:] if one != "--install"])
        return
    if asked.one:
        run_one(asked.one, asked.data)
        return
    todo = [
        (asked.data / f"{'dense' if dense else 'sparse'}, {name}", dense, records, size * asked.scale, 1)
        for dense in (True, False)
        for name, (records, size) in SIZES.items()
    ]
    with multiprocessing.Pool() as pool:
        pool.starmap(generate, [one for one in todo if not (one[0] / "size").exists()])
    lines = list(table(measure(asked.data, asked.rounds, asked.only)))
    print("\n".join(lines))
    if asked.write:
        write(["\n## Reading an archive (`make bench-trail`)\n", INTRODUCTION, machine(), *lines, ""])


INTRODUCTION = """Archives are generated, always the same: the records of the real archive in `tests/data`,
over and over, with ids, times and keys of their own (most calls by roles' sessions), in files of 2 KB, 160 KB and
5 MB compressed. In a *dense* one each file holds calls of the two keys asked for and of sessions that they mint
(one call in twenty); in a *sparse* one a file of fifty does. Every reader runs in a process of its own, in turn,
round after round; speeds are megabytes of inflated log in a second of processor time, ratios are to bare `isal`
inflating of the same files in the same round. Readers that are slow get the first part of the files. Only
sparekey also finds the files and their order, joins sessions, drops events delivered twice and groups consumers; the
others are given the files and count records. Memory is the peak of resident pages; of several processes it is the sum
of their peaks, so that what they share is counted in each.

*What is out of reach, and why.* Opening, reading and closing a file of 2 KB takes 5 µs and inflating it 13 µs, where
`json.loads` after `zlib` takes 55 to 65 µs in all: no reader of such files gets to 5 times that. Where pysimdjson or
typed msgspec is ahead, it counts and no more. Of 160 KB files (1.3 MB of text) inflating takes us 0.6 ms, letting
`msgspec` cut the records another 0.6 ms (2.0 GB/s; pysimdjson parses at 2.8 GB/s, but takes the first of two equal
names where `json.loads` takes the last), and finding other sessions, which a later minting may make ours, 0.3 ms.
Two processes share a memory bus: what bare inflating gains by a second one is measured beside.
"""

if __name__ == "__main__":
    main()
