"""Measure one reading by sparekey against `bench/server.py`: time, CPU, requests, memory as one JSON line.

`make bench-read` runs every case several times and prints the medians.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = Path(__file__).with_name("server.py")


@contextmanager
def server(*options: str) -> Iterator[str]:
    """The constant-time server, ready to answer; yields its URL."""
    command = [sys.executable, str(SERVER), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def counts(url: str) -> dict[str, int]:
    """How many requests came since this was last asked."""
    with urllib.request.urlopen(f"{url}/_counts") as answer:
        received: dict[str, int] = json.load(answer)
    return received


def environment(url: str) -> dict[str, str]:
    """What points any AWS client at the server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIABENCHBENCHBENCH0",
        "AWS_SECRET_ACCESS_KEY": "practice",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "10",
    }


def read(mode: str, organization: bool, workers: int) -> dict[str, float]:
    """One reading in this process, imports and all."""
    started = time.perf_counter()
    from sparekey.audit import audit
    from sparekey.aws.accounts import AccountAccess
    from sparekey.aws.gateway import AwsGateway
    from sparekey.clock import SystemClock

    gateway = AwsGateway.connect()
    accounts = [gateway.own_account()]
    if organization:
        chosen = gateway.organization(entry=AccountAccess(role="SparekeyAudit"))
        accounts = [gateway.enter(target) for target in chosen.targets]
    snapshot = audit(
        accounts, SystemClock(), caller=gateway.caller(), read=mode, fresh=False, workers=workers
    )
    users = list(snapshot.users())
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": round(time.perf_counter() - started, 3),
        "cpu": round(usage.ru_utime + usage.ru_stime, 3),
        "megabytes": usage.ru_maxrss // 1024,
        "users": len(users),
        "spare": sum(len(user.active_keys) > 1 for _, user in users),
    }


def main() -> None:
    """Serve, read, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", default="report", choices=["list", "report", "auto"])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--org", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options, of_server = parser.parse_known_args()
    if options.inside:
        print(json.dumps(read(options.mode, options.org, options.workers)))
        return
    with server(*of_server) as url:
        command = [sys.executable, __file__, "--inside", "--mode", options.mode]
        command += ["--workers", str(options.workers), *(["--org"] if options.org else [])]
        run = subprocess.run(
            command, env={**os.environ, **environment(url)}, stdout=subprocess.PIPE, check=True
        )
        print(json.dumps({**json.loads(run.stdout), **counts(url)}))


if __name__ == "__main__":
    main()
