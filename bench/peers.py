"""Measure other tools on the same question, against the same server; one JSON line a run.

`make bench-peers` installs each into its own environment under `.bench/` and runs every case. The question:
which users have two active access keys? Each tool answers it as its documentation says.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from read import counts, environment, server

HOME = Path(__file__).parents[1] / ".bench"
PACKAGES = {"boto3": "boto3", "c7n": "c7n-org", "c7n-org": "c7n-org", "prowler": "prowler"}
ONE_ACCOUNT = ["--users", "5000", "--latency", "30"]
CASES = {
    "one-account": ONE_ACCOUNT,
    "one-account-no-latency": ["--users", "5000"],
    "limit": ["--users", "1000", "--latency", "30", "--limit", "20"],
    "fifty-accounts": ["--users", "50", "--accounts", "50", "--latency", "30"],
    "smoke": ["--users", "30"],
}
POLICY = """
policies:
  - name: two-active-keys
    resource: aws.iam-user
    filters:
      - type: access-key
        key: Status
        value: Active
      - type: value
        key: length("c7n:matched-keys")
        op: ge
        value: 2
"""


def install(peer: str) -> None:
    """Make the peer's environment from the package index, once."""
    package = PACKAGES[peer]
    home = HOME / package
    if not (home / "bin" / "pip").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    if not (home / ".installed").exists():
        pip = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, package], check=True)
        (home / ".installed").touch()


def version(peer: str) -> str:
    """The installed version."""
    package = PACKAGES[peer]
    (site,) = (HOME / package / "lib").glob("python*/site-packages")
    name = "c7n" if peer == "c7n" else package
    (found,) = metadata.distributions(name=name, path=[str(site)])
    return found.version


def command(peer: str, work: Path, accounts: int) -> list[str]:
    """How the peer is asked, in a directory of its own."""
    home = HOME / PACKAGES[peer] / "bin"
    (work / "policy.yml").write_text(POLICY)
    out = str(work / "out")
    match peer:
        case "boto3":
            return [str(home / "python"), str(Path(__file__).with_name("plain_boto3.py"))]
        case "c7n":
            run = ["run", "--cache-period", "0", "--region", "us-east-1", "-s", out]
            return [str(home / "custodian"), *run, str(work / "policy.yml")]
        case "c7n-org":
            (work / "accounts.yml").write_text(_accounts(accounts))
            run = ["run", "-c", str(work / "accounts.yml"), "-u", str(work / "policy.yml"), "-s", out]
            return [str(home / "c7n-org"), *run, "--region", "us-east-1", "--cache-period", "0"]
        case _:
            check = ["aws", "--checks", "iam_user_two_active_access_key", "--region", "us-east-1"]
            return [
                str(home / "prowler"),
                *check,
                "-M",
                "csv",
                "-o",
                out,
                "--ignore-exit-code-3",
                "--no-banner",
            ]


def _accounts(count: int) -> str:
    lines = ["accounts:"]
    for number in range(1, count + 1):
        account = f"{number:012d}"
        lines += [f"- account_id: '{account}'", f"  name: account-{account}", "  regions: [us-east-1]"]
        lines += [f"  role: arn:aws:iam::{account}:role/Audit"]
    return "\n".join(lines)


def run(peer: str, case: str) -> dict[str, object]:
    """One run of one peer."""
    options = CASES[case]
    accounts = int(options[options.index("--accounts") + 1]) if "--accounts" in options else 1
    with server(*options) as url, tempfile.TemporaryDirectory() as work:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        done = subprocess.run(
            command(peer, Path(work), accounts),
            env={**os.environ, **environment(url), "HOME": work},
            cwd=work,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        received = {"peer": peer, "version": version(peer), "case": case, "exit": done.returncode}
        measured = {"seconds": round(seconds, 2), "cpu": round(cpu, 2)}
        answer = {"spare": _found(peer, done.stdout, Path(work))}
        if done.returncode:
            print(done.stdout[-2000:], file=sys.stderr)
        return {**received, **measured, **counts(url), **answer}


def _found(peer: str, stdout: str, work: Path) -> int:
    """How many users with two active keys the tool names: a fast wrong answer is none."""
    match peer:
        case "boto3":
            return int(stdout.rsplit(maxsplit=1)[-1]) if stdout.split() else -1
        case "prowler":
            return sum(
                path.read_text().count(";FAIL;")
                for path in work.rglob("*.csv")
                if "compliance" not in path.parts
            )
        case _:
            return sum(len(json.loads(path.read_text())) for path in work.rglob("resources.json"))


def main() -> None:
    """Install and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", nargs="*", default=list(PACKAGES))
    parser.add_argument("--case", default="one-account", choices=CASES)
    parser.add_argument("--install-only", action="store_true")
    options = parser.parse_args()
    for peer in options.peers:
        install(peer)
        if not options.install_only:
            print(json.dumps(run(peer, options.case)), flush=True)


if __name__ == "__main__":
    main()
