"""A probe is red while AWS refuses for 20 s; then all is well. `denied clock role invalid`, or those that are named."""

from lab import *

HITS = []


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        HITS.append(self.rfile.read(int(self.headers["Content-Length"])).decode()); self.send_response(200); self.end_headers()
    def log_message(self, *a): pass


hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
threading.Thread(target=hook.serve_forever, daemon=True).start()


def play(mode):
    HITS.clear()
    A, B = ACC, "444455556666"
    lab = Lab(company(1, accounts=(A, B) if mode == "role" else (A,), seed="ref"), HTTP.format(watch="10d", every="3s"))
    offset = lab.dir / "ft"; offset.write_text("0")
    env = dict(H_OFFSET_FILE=str(offset), PYTHONPATH=SITE) if mode == "clock" else None
    args = ()
    if mode == "role":
        f = lab.dir / "accounts.toml"; f.write_text(f'[[account]]\nid = "{A}"\n[[account]]\nid = "{B}"\nrole = "SparekeyApply"\n'); args = lab.accounts = ("--accounts", str(f))
    state = lab.aws.state
    def operator(status):
        for k in state.keys.values():
            if k.id == lab.aws.operator.id: k.status = status
    try:
        lab.plan(*args)
        w = lab.worker("--notify", f"webhook:http://127.0.0.1:{hook.server_address[1]}/x", *args, env=env)
        lab.cli("apply", "plan.json", "--yes", *args); run = lab.runid(); time.sleep(4)
        if mode == "denied": state.faults.append(sc.Deny(action="iam:UpdateAccessKey"))
        if mode == "clock": offset.write_text("3600")
        if mode == "role": roles = state.accounts[B].roles; saved = dict(roles); roles.clear()
        if mode == "invalid": operator("Inactive")
        lab.health.say["app"] = 500; time.sleep(20)
        off = lab.inactive()
        if off:
            form(f"{mode}: refused, and the notification says so", any("still inactive" in h or "could not" in h or "ailed" in h for h in HITS), HITS, tail(w))
            form(f"{mode}: so does stderr", "ROLLBACK FAILED" in w.log.read_text(), tail(w))
            form(f"{mode}: so does `runs`", "ROLLBACK FAILED" in lab.cli("runs").stdout, lab.cli("runs").stdout[-300:])
        else: note(f"{mode}: was not refused")
        if mode == "denied": state.faults.clear()
        if mode == "clock": offset.write_text("0")
        if mode == "role": roles.update(saved)
        if mode == "invalid": operator("Active")
        t = time.time(); back = wait_for(lambda: not lab.inactive(), 63, 0.5)
        note("well again: reactivated after", round(time.time() - t, 1), "s")
        form(f"{mode}: well again, every key is reactivated", back, {s.key: (s.state, s.why[:140]) for s in lab.rec(run).steps}, tail(w))
        wait_for(lambda: not {"reactivating", "rollback_failed"} & set(lab.states(run).values()), 30, 0.5)
        bad, *more = lab.check(run); form(f"{mode}: verify and undo end well", not bad, bad, more)
    finally: lab.close()


for mode in sys.argv[1:] or ("denied", "clock", "role", "invalid"): play(mode)
end()
