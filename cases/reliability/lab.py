"""Shared by these cases: a practice AWS and a health endpoint in this process, sparekey as real processes.

SK_VENV names the virtual environment under test, else `.venv` where you are. A case reports each form with `form`
and ends with `end()`.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VENV = Path(os.environ.get("SK_VENV") or ".venv").absolute()
if Path(sys.prefix).resolve() != VENV.resolve():
    os.execv(VENV / "bin/python", [str(VENV / "bin/python"), *sys.argv])
SITE = str(Path(__file__).parent / "site")
WRONG = []


def form(what, right, *told):
    """Report one form: what holds, or what does not and how it looks."""
    if right:
        print(f"right   {what}", flush=True)
    else:
        WRONG.append(what)
        print(f"WRONG   {what}:", *told, flush=True)


def note(*told):
    """Report a figure."""
    print("       ", *told, flush=True)


def end():
    """The closing line and the exit code."""
    name = Path(sys.argv[0]).stem
    print(f"{name}: {len(WRONG)} wrong" if WRONG else f"{name}: all right")
    sys.exit(1 if WRONG else 0)


from sparekey.sandbox import Sandbox
from sparekey.sandbox import scenario as sc
PY = str(VENV / "bin/python")
ACC = "111122223333"

def company(n=3, accounts=(ACC,), extra="", keys=None, seed="h"):
    keys = keys or '[{ age = "400d" }, { age = "30d", used = { ago = "2h", service = "s3", region = "eu-central-1" } }]'
    out = [f'seed = "{seed}"', f'[caller]\naccount = "{accounts[0]}"\nuser = "ops"']
    for a in accounts:
        out.append(f'[[account]]\nid = "{a}"')
        if a != accounts[0]:
            out.append(f'role = [{{ name = "SparekeyApply" }}]')
        if a == accounts[0]:
            out.append('[[account.user]]\nname = "ops"\nkey = [{ age = "20d" }]')
        out.append(f'[[account.many]]\nprefix = "u"\ncount = {n}\nkey = {keys}')
    return "\n".join(out) + "\n" + extra

class Health:
    def __init__(self):
        self.say = {}      # name -> callable or status int
        self.asked = {}    # name -> [times]
        outer = self
        class H(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"
            def do_GET(self):
                name = self.path.strip("/")
                outer.asked.setdefault(name, []).append(time.time())
                s = outer.say.get(name, 200)
                if callable(s): s = s()
                body = b'{"status": "ok"}' if s == 200 else b"down"
                try:
                    self.send_response(s); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
                except OSError: pass
            def log_message(self, *a): pass
        self.srv = ThreadingHTTPServer(("127.0.0.1", 0), H)
        self.srv.daemon_threads = True
        threading.Thread(target=self.srv.serve_forever, daemon=True).start()
        self.port = self.srv.server_address[1]
    def url(self, name): return f"http://127.0.0.1:{self.port}/{name}"

class Lab:
    def __init__(self, scenario, policy="", home=None, url="", env=None, keep=False, start=True):
        self.dir = Path(tempfile.mkdtemp(prefix="hrel-"))
        self.home = Path(home) if home else self.dir / "home"
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.health = Health()
        self.policy_text = policy.replace("@@", f"http://127.0.0.1:{self.health.port}")
        pol = self.dir / "policy.toml"; pol.write_text(self.policy_text); pol.chmod(0o600)
        self.pol = pol
        self.aws = Sandbox(scenario); self.aws.start()
        self.url = url; self.more = env or {}
        self.procs, self.accounts = [], ()
    def env(self, **more):
        e = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "SPAREKEY_"))}
        e.update(self.aws.env()); e.update(SPAREKEY_HOME=str(self.home), COLUMNS="200")
        if self.url: e["SPAREKEY_DATABASE_URL"] = self.url
        e.update(self.more); e.update(more); return e
    def argv(self, *args, pre=()):
        args = list(args)
        if args[0] in ("plan", "apply", "worker", "undo", "resume", "stop", "audit", "console", "delete"):
            args += ["--config", str(self.pol)]
        return [*pre, PY, "-m", "sparekey", *args]
    def cli(self, *args, timeout=120, pre=(), env=None, **kw):
        t = time.time()
        try:
            p = subprocess.run(self.argv(*args, pre=pre), env=self.env(**(env or {})), capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, cwd=self.dir, **kw)
            p.t = time.time() - t
            return p
        except subprocess.TimeoutExpired as e:
            class R: pass
            r = R(); r.returncode = "TIMEOUT"; r.stdout = (e.stdout or b"").decode(); r.stderr = (e.stderr or b"").decode(); r.t = timeout
            return r
    def spawn(self, *args, pre=(), env=None, log=None, **kw):
        log = log or f"{args[0]}-{len(self.procs)}.log"
        f = open(self.dir / log, "ab")
        p = subprocess.Popen(self.argv(*args, pre=pre), env=self.env(**(env or {})), stdout=f, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.dir, **kw)
        p.log = self.dir / log
        self.procs.append(p); return p
    def worker(self, *a, wait=True, **kw):
        self._on = 0
        try:
            led = self.ledger(); self._on = len(led.workers()); led.close()
        except Exception: pass
        p = self.spawn("worker", *a, **kw)
        if wait:
            for _ in range(200):
                if b"working as" in p.log.read_bytes() or p.poll() is not None: break
                time.sleep(0.05)
            def on():
                try:
                    led = self.ledger(); n = len(led.workers()); led.close(); return n > self._on
                except Exception: return False
            wait_for(lambda: on() or p.poll() is not None, 40, 0.3); time.sleep(1.5)
        return p
    def plan(self, *a, name="plan.json"):
        p = self.cli("plan", "-o", name, *a)
        assert p.returncode in (0, 3), (p.returncode, p.stdout, p.stderr)
        return self.dir / name
    def ledger(self):
        from sparekey.ledger.store import Ledger, connect
        from sparekey.runs.storage import database_url
        return Ledger(connect(self.url or database_url(self.home)))
    def runid(self, n=-1):
        led = self.ledger()
        try: return [run for run in led.runs() if run.startswith("r-")][n]
        finally: led.close()
    def rec(self, run):
        from sparekey.runs.projection import RunProjection, catch_up
        led = self.ledger()
        try: return catch_up(led, run, RunProjection()).record()
        finally: led.close()
    def states(self, run): 
        return {s.key: s.state for s in self.rec(run).steps}
    def entries(self, run):
        led = self.ledger()
        try: return led.entries(run)
        finally: led.close()
    def observations(self, run):
        led = self.ledger()
        try: return led.observations(run)
        finally: led.close()
    def export(self, run):
        p = self.cli("ledger", "export", run)
        return [json.loads(l) for l in p.stdout.splitlines() if l.strip()]
    def keys(self):
        st = self.aws.state
        out = {}
        for k in st.keys.values(): out[k.id] = k.status
        return out
    def without_active(self):
        bad = []
        for acc in self.aws.state.accounts.values():
            for u in acc.users.values():
                ks = list(u.keys.values()) if isinstance(u.keys, dict) else list(u.keys)
                if ks and not any(k.status == "Active" for k in ks): bad.append((acc.id, u.name))
        return bad
    def inactive(self): return sorted(k for k, s in self.keys().items() if s == "Inactive")
    def stop_all(self):
        for p in self.procs:
            if p.poll() is None:
                try: p.send_signal(signal.SIGCONT); p.terminate()
                except OSError: pass
        t = time.time() + 8
        for p in self.procs:
            try: p.wait(max(0.1, t - time.time()))
            except subprocess.TimeoutExpired: p.kill(); p.wait()
    def close(self):
        self.stop_all()
        try: self.aws.stop()
        except Exception: pass
        self.health.srv.shutdown()
    def check(self, run, undo=True):
        """Invariants at the end; list of what is broken."""
        bad = []
        wait_for(lambda: "reactivating" not in self.states(run).values(), 40, 0.5)
        v = self.cli("ledger", "verify")
        if v.returncode != 0: bad.append(("verify", v.returncode, v.stdout[-300:], v.stderr[-300:]))
        rec = self.rec(run)
        st = {}
        for x in rec.steps:
            st[x.state] = st.get(x.state, 0) + 1
            if x.state in ("in_doubt", "applied", "reactivating"): bad.append(("unresolved", x.key, x.state, x.why))
        if self.without_active(): bad.append(("no active key", self.without_active()))
        if undo:
            u = self.cli("undo", run, *self.accounts)
            if u.returncode != 0: bad.append(("undo rc", u.returncode, u.stdout[-400:], u.stderr[-400:]))
            if self.inactive(): bad.append(("inactive after undo", self.inactive()))
            v = self.cli("ledger", "verify")
            if v.returncode != 0: bad.append(("verify after undo", v.returncode))
        return bad, rec.state, st

def wait_for(cond, timeout=30, step=0.1):
    t = time.time()
    while time.time() - t < timeout:
        r = cond()
        if r: return r
        time.sleep(step)
    return None
def tail(p, n=600): return p.log.read_text(errors="replace")[-n:]

HTTP = '''watch = "{watch}"
[[probes]]
name = "app"
kind = "http"
user = "*"
url = "@@/app"
every = "{every}"
timeout = 3.0
'''
