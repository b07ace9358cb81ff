"""In mid-watch: AWS's name does not resolve, connections are reset, AWS is away and comes back, sessions expire, keys are changed by others, a webhook hangs; or those that are named."""

import contextlib
import socket
import struct

from lab import *

B = "444455556666"


class Line:
    """A proxy before the practice AWS that refuses, resets or passes connections on."""

    def __init__(self, port):
        self.mode, self.target = "pass", port
        self.srv = socket.create_server(("127.0.0.1", 0)); self.port = self.srv.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            c, _ = self.srv.accept(); threading.Thread(target=self.carry, args=(c,), daemon=True).start()

    def reset(self, c):
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); c.close()

    def carry(self, c):
        if self.mode == "reset": c.recv(100); return self.reset(c)
        s = socket.create_connection(("127.0.0.1", self.target))
        def pump(a, b):
            with contextlib.suppress(OSError):
                while data := a.recv(65536):
                    if self.mode == "reset": self.reset(c); return
                    b.sendall(data)
                b.shutdown(socket.SHUT_WR)
        threading.Thread(target=pump, args=(s, c), daemon=True).start(); pump(c, s)


@contextlib.contextmanager
def watching(seed, accounts=(ACC,), n=2, env=None, args=()):
    lab = Lab(company(n, accounts=accounts, seed=seed), HTTP.format(watch="10d", every="3s"))
    if len(accounts) > 1:
        f = lab.dir / "accounts.toml"; f.write_text("".join(f'[[account]]\nid = "{a}"\n' + ('role = "SparekeyApply"\n' if a != ACC else "") for a in accounts)); more = ("--accounts", str(f))
    else: more = ()
    lab.accounts = more
    try:
        lab.plan(*more); w = lab.worker(*more, *args, env=env(lab) if env else None)
        lab.cli("apply", "plan.json", "--yes", *more); run = lab.runid()
        wait_for(lambda: set(lab.states(run).values()) == {"watching"}, 30); time.sleep(3)
        yield lab, w, run
    finally: lab.close()


def back(lab, what, seconds=63):
    t = time.time(); found = wait_for(lambda: not lab.inactive(), seconds, 0.3)
    note(what, "reactivated after", round(time.time() - t, 1), "s")
    return found


def told(w, what): form(f"{what}: the failed rollback is reported", wait_for(lambda: "ROLLBACK FAILED" in w.log.read_text(), 30), tail(w))


def fine(lab, run, what):
    wait_for(lambda: not {"reactivating", "rollback_failed"} & set(lab.states(run).values()), 40, 0.5)
    bad, *more = lab.check(run); form(f"{what}: verify and undo end well", not bad, bad, more)


def resets():
    lines = []
    def env(lab):
        lines.append(Line(int(lab.aws.url.rsplit(":", 1)[1]))); return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{lines[0].port}"}
    with watching("rst", env=env) as (lab, w, run):
        lines[0].mode = "reset"; lab.health.say["app"] = 500; told(w, "resets")
        lines[0].mode = "pass"; form("resets: over, every key is reactivated", back(lab, "resets:"), lab.states(run), tail(w)); fine(lab, run, "resets")


def dns():
    # The name resolves by HOSTALIASES in no resolver that we may change: a getaddrinfo that fails while a file is there.
    def env(lab):
        site = lab.dir / "site"; site.mkdir()
        (site / "sitecustomize.py").write_text("import os, socket\n_g = socket.getaddrinfo\ndef g(host, *a, **k):\n    if os.path.exists(%r): raise socket.gaierror(-3, 'Temporary failure in name resolution')\n    return _g(host, *a, **k)\nsocket.getaddrinfo = g\n" % str(lab.dir / "nodns"))
        return {"PYTHONPATH": str(site)}
    with watching("dns", env=env) as (lab, w, run):
        (lab.dir / "nodns").touch(); lab.health.say["app"] = 500; time.sleep(25)
        unasked = lab.inactive()
        note("dns: asked while no name resolves:", len([t for t in lab.health.asked["app"] if t > time.time() - 20]), "times; inactive", len(unasked))
        told(w, "dns"); (lab.dir / "nodns").unlink(); form("dns: over, every key is reactivated", back(lab, "dns:"), lab.states(run), tail(w)); fine(lab, run, "dns")


def restart():
    with watching("again") as (lab, w, run):
        port = int(lab.aws.url.rsplit(":", 1)[1])
        lab.aws.stop(); lab.health.say["app"] = 500; told(w, "restart"); time.sleep(5)
        lab.aws._port = port; lab.aws.start()
        form("restart: AWS is there again, every key is reactivated", back(lab, "restart:"), lab.states(run), tail(w)); fine(lab, run, "restart")


def expired():
    with watching("exp", (ACC, B), 1) as (lab, w, run):
        before = len(lab.aws.state.sessions); lab.aws.state.sessions.clear()
        note("expired:", before, "sessions ended"); lab.health.say["app"] = 500
        form("expired: sessions end in mid-watch, every key is reactivated", back(lab, "expired:"), lab.states(run), tail(w)); fine(lab, run, "expired")


def others():
    with watching("oth", n=3) as (lab, w, run):
        off = lab.inactive(); state = lab.aws.state
        find = lambda k: next((u, u.keys) for a in state.accounts.values() for u in a.users.values() for x in (u.keys.values() if isinstance(u.keys, dict) else u.keys) if x.id == k)
        import botocore.session
        e = lab.env(); iam = botocore.session.Session().create_client("iam", region_name="us-east-1", endpoint_url=e["AWS_ENDPOINT_URL"], aws_access_key_id=e["AWS_ACCESS_KEY_ID"], aws_secret_access_key=e["AWS_SECRET_ACCESS_KEY"])
        user_of = {s.key: s.user for s in lab.rec(run).steps}
        iam.delete_access_key(UserName=user_of[off[0]], AccessKeyId=off[0])
        iam.update_access_key(UserName=user_of[off[1]], AccessKeyId=off[1], Status="Active")
        stays = next(x for x in find(off[2])[1] if (x.id if hasattr(x, "id") else x) != off[2]); stays = getattr(stays, "id", stays)
        iam.update_access_key(UserName=user_of[off[2]], AccessKeyId=stays, Status="Inactive")  # the user has none left
        lab.health.say["app"] = 500; t = time.time()
        wait_for(lambda: lab.keys().get(off[2]) == "Active", 63, 0.3); note("others: reactivated after", round(time.time() - t, 1), "s")
        form("others: one key deleted, one reactivated, one user without a key: the key that is left comes back", lab.keys().get(off[2]) == "Active", lab.states(run), tail(w))
        form("others: the deleted key ends the work on no other", wait_for(lambda: "watching" not in lab.states(run).values(), 30), lab.states(run))
        form("others: the worker lives", w.poll() is None, tail(w))


def webhook():
    class Slow(BaseHTTPRequestHandler):
        def do_POST(self): time.sleep(60)
        def log_message(self, *a): pass
    srv = ThreadingHTTPServer(("127.0.0.1", 0), Slow); srv.daemon_threads = True; threading.Thread(target=srv.serve_forever, daemon=True).start()
    pol = 'watch = "10d"\n' + "".join(f'[[probes]]\nname = "{n}"\nkind = "http"\nuser = "u{i}"\nurl = "@@/{n}"\nevery = "3s"\ntimeout = 3.0\n' for i, n in ((1, "a"), (2, "b"), (3, "c")))
    lab = Lab(company(4, seed="slow"), pol)
    try:
        lab.plan(); w = lab.worker("--notify", f"webhook:http://127.0.0.1:{srv.server_address[1]}/x"); lab.cli("apply", "plan.json", "--yes"); run = lab.runid(); time.sleep(4)
        lab.health.say.update(a=500, b=500); time.sleep(8); lab.health.say["c"] = 500; t = time.time()
        key = next(s.key for s in lab.rec(run).steps if s.user == "u3")
        found = wait_for(lambda: lab.keys()[key] == "Active", 63, 0.3); note("webhook: reactivated after", round(time.time() - t, 1), "s")
        form("webhook: it hangs, and a third probe turns red: its key is reactivated within half a minute", found and time.time() - t < 30, tail(w))
    finally: lab.close()


for name in sys.argv[1:] or ("resets", "dns", "restart", "expired", "others", "webhook"): globals()[name]()
end()
