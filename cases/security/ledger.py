"""The ledger and the state directory: edits, cuts, a chain made anew, modes, whose directory it is, a policy that is swapped.

Run: SK_VENV=… python3 ledger.py (SQLite; as root for the directory of another account). Expected: every edit is found,
with a head a cut tail too; a directory of another account is refused, for the worker loads what lies in it; the policy that
is read is the one that was checked. Before: `--head ""`, as from an empty variable, checks nothing and ends with 0; another
account's directory is used; in a folder that others may write, another account's policy is accepted now and then.
"""

import sqlite3
import threading
import time

from common import *


def q(statement: str, *values: object) -> list[tuple]:
    connection = sqlite3.connect(d / "state/sparekey.db")
    rows = connection.execute(statement, values).fetchall()
    connection.commit()
    connection.close()
    return rows


def verify(form: str, right: bool, *args: str) -> None:
    """Ask, note whether it finds what it should, and put the good state back."""
    done = run(env, "ledger", "verify", *args)
    check(form, (done.returncode != 0) is right, f"rc {done.returncode} {(done.stderr or done.stdout).splitlines()[0][:90]}")
    shutil.rmtree(d / "state")
    shutil.copytree(d / "good", d / "state")


def make_anew() -> None:
    """A chain with another caller, every hash made again (SHA-256 over all of an entry but its hash)."""
    prev = "0" * 64
    for name, seq, at, kind, body in q("select run, seq, at, kind, body from sparekey_entries where run like 'r-%' order by seq"):
        body = body.replace("user/ops", "user/other")
        text = json.dumps([name, seq, at, kind, body, prev], separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        q("update sparekey_entries set body = ?, prev = ?, hash = ? where run = ? and seq = ?", body, prev, digest, name, seq)
        prev = digest


with Sandbox(company(IDLE)) as aws, folder() as d:
    env = env_of(aws, d)
    before = os.umask(0)
    made = plan(env, d / "p.json")
    run(env, "apply", d / "p.json", "--yes")
    os.umask(before)
    loose = [str(p.relative_to(d)) for p in (d / "p.json", d / "state", *(d / "state").rglob("*")) if p.stat().st_mode & 0o077]
    check("umask 0 opens nothing to others", not loose, ", ".join(loose))
    shutil.copytree(d / "state", d / "good")
    name = run_id(made)
    head = run(env, "ledger", "verify", name).stdout.split("head ")[1].strip()
    q("update sparekey_entries set body = replace(body, 'Inactive', 'Active') where seq = 2")
    verify("an entry edited", True, name)
    q("update sparekey_entries set at = '2020-01-01T00:00:00+00:00' where seq = 2")
    verify("a time edited", True, name)
    q("update sparekey_entries set account = '444455556666' where seq = 2")
    verify("a column edited", True, name)
    q("delete from sparekey_entries where seq = 2")
    verify("the second entry removed", True, name)
    for old, new in ((2, 99), (3, 2), (99, 3)):
        q("update sparekey_entries set seq = ? where seq = ?", new, old)
    verify("two entries exchanged", True, name)
    cut = "delete from sparekey_entries where seq = (select max(seq) from sparekey_entries)"
    q(cut)
    verify("the last entry removed, --head", True, name, "--head", head)
    q(cut)
    verify("the last entry removed, --head of an empty variable", True, name, "--head", "")
    make_anew()
    verify("made anew: it differs from its copy", True, name)
    make_anew()
    [path.unlink() for path in (d / "state/reverse").glob("*.jsonl")]
    verify("made anew, and its copy removed: whole in itself", False, name)
    make_anew()
    verify("made anew, --head", True, name, "--head", head)
    q("create trigger t after insert on sparekey_entries begin delete from sparekey_entries where kind = 'written'; end")
    run(env, "undo", name)
    check("undo in spite of a trigger", not inactive(aws, "idle"), list(keys(aws, "idle").values()))

if os.getuid() == 0:
    with Sandbox(company(IDLE)) as aws, folder() as d:
        (d / "state").mkdir(mode=0o700)
        os.chown(d / "state", 65534, 65534)
        env = env_of(aws, d)
        plan(env, d / "p.json")
        done = run(env, "apply", d / "p.json", "--yes")
        check("a state directory of another account", done.returncode and not inactive(aws, "idle"), f"rc {done.returncode}")

    from sparekey.settings import load_policy  # no command is quick enough; where this has moved, name it anew

    with folder() as d:
        d.chmod(0o777)
        for name, text in (("good", 'quiet="45d"\n'), ("evil", 'quiet="32d"\n')):
            (d / name).write_text(text)
            (d / name).chmod(0o600)
        os.chown(d / "evil", 65534, 65534)
        going, evil = True, 0

        def swap() -> None:
            while going:
                for name in ("evil", "good"):
                    os.link(d / name, d / "next")
                    os.replace(d / "next", d / "sparekey.toml")

        thread = threading.Thread(target=swap)
        thread.start()
        end = time.monotonic() + 6
        while time.monotonic() < end:
            with contextlib.suppress(Exception):
                evil += "32" in str(load_policy(d / "sparekey.toml").quiet)
        going = False
        thread.join()
        check("a policy swapped while it is read", not evil, f"another account's was accepted {evil} times")
closing()
