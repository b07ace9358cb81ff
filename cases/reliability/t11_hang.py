"""Two accounts in one run. One account's IAM hangs and its probe is red; then the other's turns red. `[SECONDS]`"""

from lab import *

secs = float(sys.argv[1]) if len(sys.argv) > 1 else 1000
A, B = ACC, "444455556666"
POL = "".join(f'[[probes]]\nname = "app-{n}"\nkind = "http"\nuser = "*"\naccount = "{a}"\nurl = "@@/{n}"\nevery = "3s"\ntimeout = 3.0\n' for n, a in (("a", A), ("b", B)))
lab = Lab(company(2, accounts=(A, B), seed="hang"), 'watch = "10d"\n' + POL)
ac = lab.dir / "accounts.toml"
ac.write_text(f'[[account]]\nid = "{A}"\n[[account]]\nid = "{B}"\nrole = "SparekeyApply"\n')
try:
    lab.plan("--accounts", str(ac)); w = lab.worker("--accounts", str(ac))
    lab.cli("apply", "plan.json", "--yes", "--accounts", str(ac)); run = lab.runid()
    time.sleep(4)
    lab.aws.state.faults.append(sc.Latency(seconds=secs, account=B, action="iam:*"))
    lab.health.say["b"] = 500; time.sleep(6)
    lab.health.say["a"] = 500; t, n = time.time(), len(lab.health.asked["a"])
    akeys = [s.key for s in lab.rec(run).steps if s.account == A]
    back = wait_for(lambda: all(lab.keys()[k] == "Active" for k in akeys), 63, 0.5)
    note("reactivated after", round(time.time() - t, 1), "s; asked", len(lab.health.asked["a"]) - n, "times")
    form(f"one account hangs for {secs:g} s: the other's keys are reactivated", back, lab.states(run), tail(w))
    wait_for(lambda: "ROLLBACK FAILED" in tail(w, 5000), 45, 0.5)
    form("the hanging account's failed rollback is reported", "ROLLBACK FAILED" in tail(w, 5000), tail(w))
    lab.aws.state.faults.clear(); t = time.time()
    back = wait_for(lambda: not lab.inactive(), 80, 0.5); note("the hanging account's after", round(time.time() - t, 1), "s")
    form("it answers again: its keys are reactivated", back, lab.states(run))
finally: lab.close()
end()
