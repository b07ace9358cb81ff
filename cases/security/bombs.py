"""Bombs and odd files in an archive, a policy, a mutelist, an accounts file, a plan; each with 3 GiB of memory and a minute.

Run: SK_VENV=… python3 bombs.py (Linux; a minute or two). Expected: each is told in one sentence, and one bad file of an
archive is named as unread while the others are read (exit code 4). Before: a record of the year 1 ends with "a way it does
not know: OverflowError", a sparse file of 1 TiB with MemoryError, a deeply nested mutelist with RecursionError.
"""

import gzip
import resource
import time

from common import *

KEY = "AKIAIOSFODNN7EXAMPLE"
NAME = "AWSLogs/111122223333/CloudTrail/us-east-1/2026/11/01/111122223333_CloudTrail_us-east-1_20261101T0000Z_{}.json.gz"
RECORD = b'{"eventTime": "2026-11-01T00:00:00Z", "eventSource": "s3.amazonaws.com", "eventName": "PutObject", "awsRegion": "us-east-1", "sourceIPAddress": "198.51.100.7", "userAgent": "x", "userIdentity": {"type": "IAMUser", "accessKeyId": "AKIAIOSFODNN7EXAMPLE"}, "eventID": "1"}'
GOOD = b'{"Records": [' + RECORD + b"]}"


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))


def go(form: str, env: dict[str, str], *args: object, codes: tuple[int, ...]) -> None:
    """Right where it ends in a minute with one of these codes, and knows what happened."""
    begin = time.monotonic()
    try:
        done = run(env, *args, timeout=60, preexec_fn=limited)
    except subprocess.TimeoutExpired:
        check(form, False, "no end in 60 s")
        return
    said = next((line for line in done.stderr.splitlines() if line.startswith(("error", "unread"))), "")
    check(form, done.returncode in codes and "way it does not know" not in done.stderr, f"rc {done.returncode}, {time.monotonic() - begin:.0f} s {said[:110]}")


def archive(form: str, *contents: bytes, codes: tuple[int, ...] = (0, 4), odd=lambda folder: None) -> None:
    """An archive with a file for each content, and what `odd` puts beside them."""
    with folder() as d:
        for number, content in enumerate(contents):
            path = d / "trail" / NAME.format(f"file{number}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        odd(path.parent)
        go(form, env_of(None, d), "usage", KEY, "--source", f"archive={d / 'trail'}", "--processes", "1", codes=codes)


good = gzip.compress(GOOD)
archive("good", good, codes=(0,))
archive("gzip, 600 MiB of zeros", gzip.compress(b"\0" * (600 << 20)), codes=(4,))
archive("gzip, 400 members of 1 MiB", gzip.compress(b" " * (1 << 20)) * 400, codes=(4,))
archive("gzip, 40,000 empty members", gzip.compress(b"") * 40_000 + good, codes=(0,))
archive("nested in a record", gzip.compress(GOOD[:-3] + b', "x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"), codes=(4,))
archive("a number of 200,000 digits", gzip.compress(GOOD.replace(b'"2026-11-01T00:00:00Z"', b"9" * 200_000)), codes=(4,))
archive("the year 9999", gzip.compress(GOOD.replace(b"2026-11-01", b"9999-12-31")))
archive("the year 1, another zone", gzip.compress(GOOD.replace(b"2026-11-01T00:00:00Z", b"0001-01-01T00:00:00+23:59")))
archive("an agent of 5 MiB", gzip.compress(GOOD.replace(b'"x"', b'"' + b"aws-cli/" * 600_000 + b'"')))
archive("64 MiB of line breaks", gzip.compress(b"\n" * (64 << 20)), codes=(4,))


def oddities(where: Path) -> None:
    os.mkfifo(where / NAME.format("pipe").rpartition("/")[2])
    (where / NAME.format("zero").rpartition("/")[2]).symlink_to("/dev/zero")
    (where / "loop").symlink_to(where)


def sparse(where: Path) -> None:
    with (where / "sparse.json.gz").open("wb") as file:
        file.truncate(1 << 40)


archive("a pipe, /dev/zero, a loop", good, odd=oddities)
archive("a sparse file of 1 TiB", good, odd=sparse, codes=(4,))

ALIASES = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9))
MUTELIST = '[[mutelist]]\nfile="m.yml"\nowner="platform"\nuntil=2099-01-01\n'
with folder() as d:
    env = env_of(None, d, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY="x", AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_REGION="us-east-1", AWS_MAX_ATTEMPTS="1")

    def mutelist(form: str, text: str) -> None:
        policy(d, MUTELIST)
        (d / "state/m.yml").write_text(text)
        (d / "state/m.yml").chmod(0o600)
        go(form, env, "audit", codes=(2,))

    mutelist("mutelist: aliases of aliases", ALIASES + "Mutelist: *j\n")
    mutelist("mutelist: nested", "[" * 20_000)
    mutelist("mutelist: a Python tag", f"!!python/object/apply:os.system ['touch {d}/touched']")
    check("the tag ran nothing", not (d / "touched").exists())
    policy(d, "x=" + "[" * 20_000)
    go("policy: nested", env, "audit", codes=(2,))
    (d / "state/sparekey.toml").unlink()
    (d / "p.json").write_text("[" * 300_000)
    go("plan: nested", env, "apply", d / "p.json", "--yes", codes=(1,))
    (d / "p.json").write_text('{"schema":"sparekey/plan/1","x":' + "9" * 100_000 + "}")
    go("plan: a number of 100,000 digits", env, "apply", d / "p.json", "--yes", codes=(1,))
with Sandbox(company()) as aws, folder() as d:
    (d / "acc.yml").write_text("[" * 20_000)
    go("accounts: nested", env_of(aws, d), "audit", "--accounts", d / "acc.yml", codes=(2,))
    (d / "acc.yml").write_text(ALIASES + f"accounts:\n- account_id: '{ACCOUNT}'\n  tags: *j\n")
    go("accounts: aliases of aliases", env_of(aws, d), "audit", "--accounts", d / "acc.yml", codes=(0, 2, 4))
closing()
