"""The state under attack in mid-watch (SQLite): lock full ro delete corrupt backup path, or those that are named."""

import contextlib
import sqlite3

from lab import *

HOOK_HITS = []


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        HOOK_HITS.append(self.rfile.read(int(self.headers["Content-Length"])).decode()); self.send_response(200); self.end_headers()
    def log_message(self, *a): pass


hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
threading.Thread(target=hook.serve_forever, daemon=True).start()
NOTIFY = ("--notify", f"webhook:http://127.0.0.1:{hook.server_address[1]}/x")


@contextlib.contextmanager
def stage(which, home=None):
    HOOK_HITS.clear()
    lab = Lab(company(3, seed="s" + which), HTTP.format(watch="10m", every="2s"), home=home)
    try:
        lab.plan(); w = lab.worker(*NOTIFY)
        lab.cli("apply", "plan.json", "--yes"); run = lab.runid()
        wait_for(lambda: set(lab.states(run).values()) == {"watching"}, 30)
        time.sleep(3)
        yield lab, w, run
    finally:
        lab.close()


def red(lab, seconds=62):
    lab.health.say["app"] = 500; t = time.time()
    back = wait_for(lambda: not lab.inactive(), seconds, 0.3)
    note("reactivated after", round(time.time() - t, 1), "s" if back else "s: NOT")
    return back


def told(w, lab, what):
    wait_for(lambda: re.search("cannot|removed|damaged|locked", tail(w, 3000)), 12)
    form(f"{what}: the worker's stderr names it", re.search("damaged|cannot|removed|replaced|locked|full", tail(w, 3000)), tail(w, 1500))


def tmpfs(size="12m"):
    home = tempfile.mkdtemp(prefix="hrel-tmpfs-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", home], check=True)
    return home


def unmount(home):
    subprocess.run(["umount", "-l", home])


def lock():
    with stage("lock") as (lab, w, run):
        c = sqlite3.connect(lab.home / "sparekey.db", isolation_level=None); c.execute("BEGIN IMMEDIATE")
        back = red(lab, 75)
        form("lock: unhealthy while another process holds the file for 75 s, every key is reactivated", back, tail(w))
        told(w, lab, "lock")
        c.execute("ROLLBACK")
        form("lock: unlocked, every key is reactivated and the worker lives", wait_for(lambda: "watching" not in lab.states(run).values(), 62, 0.5) and w.poll() is None, lab.states(run), tail(w))
        bad, *more = lab.check(run)
        form("lock: verify and undo end well", not bad, bad, more)


def full():
    home = tmpfs()
    try:
        with stage("full", home + "/home") as (lab, w, run):
            with open(Path(home) / "fill", "wb", buffering=0) as f, contextlib.suppress(OSError):
                while True: f.write(b"x" * 4096)
            form("full: unhealthy on a full disk, every key is reactivated", red(lab), tail(w))
            told(w, lab, "full")
            u = lab.cli("undo", run)
            form("full: undo works", u.returncode == 0 and not lab.inactive(), u.returncode, u.stderr[-300:])
            os.truncate(Path(home) / "fill", 0)
            form("full: room again, the run goes on", wait_for(lambda: "watching" not in lab.states(run).values(), 62, 0.5), lab.states(run), tail(w))
            bad, *more = lab.check(run)
            form("full: verify and undo end well", not bad, bad, more)
    finally: unmount(home)


def ro():
    home = tmpfs()
    try:
        with stage("ro", home + "/home") as (lab, w, run):
            r = subprocess.run(["mount", "-o", "remount,ro", home], capture_output=True, text=True)
            if r.returncode != 0:  # a process that has the file open for writing is in the way: bind another mount over it
                subprocess.run(["mount", "--bind", home, home]); r = subprocess.run(["mount", "-o", "remount,ro,bind", home], capture_output=True, text=True)
            if r.returncode != 0: note("ro: cannot be played:", r.stderr.strip()); return
            form("ro: unhealthy while the disk is read-only, every key is reactivated", red(lab), tail(w))
            # Files that are open stay writable under a read-only bind mount: then there is nothing to tell.
            if set(lab.states(run).values()) == {"watching"}: told(w, lab, "ro")
            u = lab.cli("undo", run)
            form("ro: undo works", u.returncode == 0 and not lab.inactive(), u.returncode, u.stderr[-300:])
            subprocess.run(["mount", "-o", "remount,rw", home])
    finally: unmount(home); unmount(home)


def delete():
    with stage("delete") as (lab, w, run):
        shutil.rmtree(lab.home)
        back = red(lab)
        form("delete: unhealthy after rm -r of the state, every key is reactivated, or --notify says so", back or HOOK_HITS, tail(w))
        told(w, lab, "delete")


def corrupt():
    with stage("corrupt") as (lab, w, run):
        db = lab.home / "sparekey.db"
        b = bytearray(db.read_bytes())
        for i in range(4096 * 3, len(b), 4096): b[i:i + 200] = os.urandom(200)
        with open(db, "r+b") as f: f.write(b)
        if Path(f"{db}-wal").exists(): os.truncate(f"{db}-wal", 0)
        back = red(lab)
        form("corrupt: unhealthy beside a damaged ledger, every key is reactivated", back, w.poll(), tail(w, 1500))
        form("corrupt: the worker lives on", w.poll() is None, w.poll(), tail(w, 800))
        told(w, lab, "corrupt")
        form("corrupt: --notify is told", HOOK_HITS, HOOK_HITS)
        w.terminate(); w.wait(); HOOK_HITS.clear()
        w = lab.worker(*NOTIFY, wait=False)
        form("corrupt: a worker that is started then tells --notify", wait_for(lambda: HOOK_HITS, 60), w.poll(), tail(w))
        u = lab.cli("undo", run)
        form("corrupt: undo works", u.returncode == 0 and not lab.inactive(), u.returncode, u.stderr[-300:])
        form("corrupt: no traceback", "Traceback" not in w.log.read_text(), tail(w, 1500))


def backup():
    with stage("backup") as (lab, w, run):
        w.terminate(); w.wait(); shutil.copytree(lab.home, lab.dir / "bak")
        w = lab.worker()
        k = sorted(lab.states(run))[0]; lab.cli("undo", run, "--key", k)
        w.terminate(); w.wait(); shutil.rmtree(lab.home); shutil.copytree(lab.dir / "bak", lab.home)
        w = lab.worker()
        form("backup: restored from before an undo, unhealthy: every key is reactivated", red(lab), lab.states(run), tail(w))
        v = lab.cli("ledger", "verify"); form("backup: verify ends well", v.returncode == 0, v.stdout[-300:])


def path():
    home = tempfile.mkdtemp(prefix="hrel-") + "/state dir ümläut 'q' %20 #x?y=1"
    with stage("path", home) as (lab, w, run):
        form("path: the database lies where it was asked for", (lab.home / "sparekey.db").exists(), list(lab.home.parent.iterdir()))
        form("path: unhealthy, every key is reactivated", red(lab), tail(w))


for name in sys.argv[1:] or ("lock", "full", "ro", "delete", "corrupt", "backup", "path"):
    globals()[name]()
end()
