"""One run of many keys, then a ledger of many entries: what the worker's loop, `runs` and `show` cost. `[KEYS ENTRIES]`"""

import sqlite3

from lab import *
from sparekey.ledger.store import GENESIS, entry_hash

N = int(sys.argv[1]) if len(sys.argv) > 1 else 200
ENTRIES = int(sys.argv[2]) if len(sys.argv) > 2 else 80_000
lab = Lab(company(N, seed="load"), HTTP.format(watch="8d", every="10s"))


def cpu(p):
    a = open(f"/proc/{p.pid}/stat").read().rsplit(")", 1)[1].split(); return (int(a[11]) + int(a[12])) / 100


def used(*args):
    """Seconds of CPU that a command takes, and its exit code."""
    before = os.times(); r = lab.cli(*args, timeout=300); after = os.times()
    return round(after.children_user + after.children_system - before.children_user - before.children_system, 1), r


def loop(label, w):
    n, c, t = len(lab.health.asked["app"]), cpu(w), time.time(); time.sleep(21)
    percent, asks = (cpu(w) - c) / (time.time() - t) * 100, len(lab.health.asked["app"]) - n
    note(label, f"worker: {percent:.0f} % of a CPU, {asks} asks in 21 s")
    form(f"{label}: the worker asks every 10 s and takes less than a quarter of a CPU", asks >= 1 and percent < 25, percent, asks)


try:
    lab.plan(); w = lab.worker()
    ap = lab.cli("apply", "plan.json", "--yes", "--max-keys", str(N), timeout=300)
    form(f"{N} keys are applied", ap.returncode == 0, ap.returncode, ap.stderr[-300:]); note("apply:", round(ap.t, 1), "s")
    run = lab.runid(); loop("one run", w); w.terminate(); w.wait()
    c = sqlite3.connect(lab.home / "sparekey.db")
    rows = c.execute("select seq,at,kind,account,user_name,body from sparekey_entries where run=? order by seq", (run,)).fetchall()
    copies = max(1, ENTRIES // len(rows))
    for i in range(copies):
        rid, prev, out = f"r-{i:08x}", GENESIS, []
        for seq, at, kind, acc, user, body in rows:
            h = entry_hash(rid, seq, at, kind, body, prev); out.append((rid, seq, at, kind, acc, user, body, prev, h)); prev = h
        c.executemany("insert into sparekey_entries(run,seq,at,kind,account,user_name,body,prev,hash) values (?,?,?,?,?,?,?,?,?)", out)
        c.execute("insert into sparekey_runs(run, unfinished) values (?, 0)", (rid,))
    c.commit(); note("entries in all:", c.execute("select count(*) from sparekey_entries").fetchone()[0], "in", copies + 1, "runs"); c.close()
    first, r = used("runs"); form("runs ends well", r.returncode == 0, r.stderr[-300:])
    second, _ = used("runs"); note("runs: CPU", first, "s, again", second, "s")
    form("`runs` again takes less than 3 s of CPU", second < 3, second)
    shown, r = used("show", run); note("show: CPU", shown, "s"); form("`show` takes less than 3 s of CPU", r.returncode == 0 and shown < 3, shown, r.stderr[-300:])
    w = lab.worker(); loop("many runs", w)
    lab.health.say["app"] = 500; t = time.time(); back = wait_for(lambda: not lab.inactive(), 70, 0.5)
    note("reactivated after", round(time.time() - t, 1), "s"); form("unhealthy: every key is reactivated within a minute and the interval", back, len(lab.inactive()), tail(w))
finally: lab.close()
end()
