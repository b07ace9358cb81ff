"""CPU of listing runs that have ended, by a process that has not read them before. `[RUNS KEYS]`"""

from lab import *
from sparekey.clock import SystemClock
from sparekey.ledger.store import GENESIS, entry_hash
from sparekey.model import Caller
from sparekey.runs.service import RunService
from sparekey.runs.storage import StateDirectory

COUNT, KEYS = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (100, 50)
lab = Lab(company(KEYS, seed="list"), 'watch = "1s"\n')
try:
    lab.plan(); ap = lab.cli("apply", "plan.json", "--yes", "--no-watch", "--max-keys", str(KEYS)); run = lab.runid()
    form("a run ends", ap.returncode == 0, ap.returncode, ap.stderr[-300:])
    import sqlite3

    c = sqlite3.connect(lab.home / "sparekey.db")
    rows = c.execute("select seq,at,kind,account,user_name,body from sparekey_entries where run=? order by seq", (run,)).fetchall()
    for i in range(COUNT):
        rid, prev, out = f"r-{i:08x}", GENESIS, []
        for seq, at, kind, acc, user, body in rows:
            h = entry_hash(rid, seq, at, kind, body, prev); out.append((rid, seq, at, kind, acc, user, body, prev, h)); prev = h
        c.executemany("insert into sparekey_entries(run,seq,at,kind,account,user_name,body,prev,hash) values (?,?,?,?,?,?,?,?,?)", out)
        c.execute("insert into sparekey_runs(run, unfinished) values (?, 0)", (rid,))
    c.commit(); c.close()
    spent = []
    for _ in range(3):
        before = os.times(); r = lab.cli("runs"); after = os.times()
        spent.append(round(after.children_user + after.children_system - before.children_user - before.children_system, 2))
    note(COUNT + 1, "runs of", len(rows), "entries: CPU of `runs`, three times:", spent)
    form("the last time it reads no run that has ended", spent[-1] < 2, spent)
    st = StateDirectory(lab.home); found = RunService(st, SystemClock(), lambda a: None, Caller("", ""))
    for _ in range(2): t = time.process_time(); x = found.list(); spent.append(time.process_time() - t)
    form("it lists them all", len(x) == COUNT + 1, len(x)); note("in a process:", [round(s, 2) for s in spent[-2:]]); st.close()
finally: lab.close()
end()
