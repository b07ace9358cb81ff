"""Rows that the engine has finished with: are they removed, and what do they cost the worker's loop? `[ROWS]`"""

import sqlite3

from lab import *
from sparekey.ledger.store import Ledger
from sparekey.runs.queue import Queue
from sparekey.runs.worker_leases import WorkerLeases
from sparekey.runs.storage import StateDirectory

N = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
d = Path(tempfile.mkdtemp(prefix="hrel-rows-")) / "h"
st = StateDirectory(d); e = Queue(st, WorkerLeases(st.ledger, st), None); e.prepare(); e.enqueue("r-aaaaaaaa", ACC)
c = sqlite3.connect(d / "sparekey.db"); cols = [r[1] for r in c.execute("pragma table_info(workflow_status)")]
row = dict(zip(cols, c.execute("select * from workflow_status").fetchone())); now = int(time.time() * 1000)


def finished():
    for i in range(N):
        r = dict(row, workflow_uuid=f"r-{i % 20:08x}/{ACC}/work-{i}", status="SUCCESS", executor_id="executor-x", created_at=now - 120_000 - i, updated_at=now - 120_000 - i)
        if "completed_at" in r: r["completed_at"] = now - 120_000 - i
        if "deduplication_id" in r: r["deduplication_id"] = None
        yield tuple(r[k] for k in cols)


c.executemany(f"insert into workflow_status({','.join(cols)}) values ({','.join('?' * len(cols))})", finished()); c.commit()
begun, rounds = time.process_time(), 0
while rounds < N // 100 and c.execute("select count(*) from workflow_status").fetchone()[0] > 1: e.recover(); rounds += 1
left = c.execute("select count(*) from workflow_status").fetchone()[0]
note(f"{N} rows gone after {rounds} sweeps and {time.process_time() - begun:.1f} s of CPU")
form("rows that have ended are removed", left == 1, left)
for name, call in (("sweep", e.recover), ("active", lambda: e.active("r-00000001"))):
    call(); t = time.process_time(); call(); spent = (time.process_time() - t) * 1000
    form(f"{name} takes less than 50 ms of CPU afterwards", spent < 50, spent)
c.close(); e.stop(); st.close(); shutil.rmtree(d.parent)
end()
