"""300 users with a probe each, asked every 10 s, of which some hang: are they asked in time, and how soon does one key come back? `[PROBES]`"""

from lab import *

N = int(sys.argv[1]) if len(sys.argv) > 1 else 300
pol = 'watch = "10d"\n' + "".join(f'[[probes]]\nname = "p{i}"\nkind = "http"\nuser = "u{i}"\nurl = "@@/p{i}"\nevery = "10s"\ntimeout = 5.0\n' for i in range(1, N + 1))
lab = Lab(company(N, seed="many"), pol)


def cpu(p): a = open(f"/proc/{p.pid}/stat").read().rsplit(")", 1)[1].split(); return (int(a[11]) + int(a[12])) / 100


try:
    lab.plan(); w = lab.worker()
    ap = lab.cli("apply", "plan.json", "--yes", "--max-keys", str(N), timeout=400); run = lab.runid(); note("apply:", ap.returncode, round(ap.t, 1), "s")
    wait_for(lambda: set(lab.states(run).values()) == {"watching"}, 60, 1)
    hangs = lambda: time.sleep(30) or 200
    for i in range(1, 11): lab.health.say[f"p{i}"] = hangs
    time.sleep(10); t, c = time.time(), cpu(w); time.sleep(30)
    asked = {n: len([x for x in xs if t <= x < t + 30]) for n, xs in list(lab.health.asked.items())}
    few = {n: k for n, k in asked.items() if k < 2}
    note("worker:", round((cpu(w) - c) / 30 * 100), "% of a CPU; asks in 30 s:", sum(asked.values()), "; asked less than twice:", len(few))
    form(f"{N} probes, 10 of which hang: each is asked", not [n for n, k in asked.items() if k == 0 and n not in {f"p{i}" for i in range(1, 11)}], few)
    key = next(s.key for s in lab.rec(run).steps if s.user == f"u{N}")
    lab.health.say[f"p{N}"] = 500; t = time.time(); back = wait_for(lambda: lab.keys()[key] == "Active", 70, 0.3)
    note("reactivated after", round(time.time() - t, 1), "s"); form("one turns red: its key is reactivated within 70 s", back, tail(w))
finally: lab.close()
end()
