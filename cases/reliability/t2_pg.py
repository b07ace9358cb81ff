"""PostgreSQL: every connection dropped (term), or the server killed and started again (kill9), in mid-apply with two workers."""

from lab import *
from pg import PG


def play(how):
    pg = PG()
    lab = Lab(company(20, seed="pg"), HTTP.format(watch="10m", every="2s"), url=pg.url)
    try:
        lab.plan()
        w1 = lab.worker(); w2 = lab.worker()
        lab.aws.state.faults.append(sc.Latency(seconds=1.0, action="iam:ListAccessKeys"))
        ap = lab.spawn("apply", "plan.json", "--yes")
        wait_for(lab.inactive, 40, 0.2)
        if how == "kill9": pg.kill9(); time.sleep(4); pg.start()
        else: pg.sql("select pg_terminate_backend(pid) from pg_stat_activity where pid<>pg_backend_pid() and datname='sparekey'")
        time.sleep(4)
        form(f"{how}: both workers live on", w1.poll() is None and w2.poll() is None, tail(w1), tail(w2))
        run = lab.runid(); lab.aws.state.faults.clear()
        r = lab.cli("apply", "plan.json", "--yes", timeout=100)
        form(f"{how}: a second apply ends", r.returncode in (0, 3), r.returncode, r.stderr[-400:])
        form(f"{how}: every key comes to be watched", wait_for(lambda: all(s in ("watching", "held", "failed", "unwatched") for s in lab.states(run).values()), 60, 0.5), lab.states(run))
        kinds = {}
        for e in lab.entries(run): kinds[e.kind] = kinds.get(e.kind, 0) + 1
        form(f"{how}: nothing is begun again and again", kinds.get("watching", 0) <= 20, kinds)
        n = len(lab.health.asked.get("app", [])); time.sleep(10)
        form(f"{how}: the probe is asked every 2 s", len(lab.health.asked.get("app", [])) - n >= 3, len(lab.health.asked.get("app", [])) - n)
        lab.health.say["app"] = 500; t = time.time()
        back = wait_for(lambda: not lab.inactive(), 62, 0.3)
        note("rollback after", round(time.time() - t, 1), "s")
        form(f"{how}: unhealthy, every key is reactivated", back, lab.states(run))
        ap.poll() is None and ap.terminate()
        bad, *more = lab.check(run)
        form(f"{how}: verify and undo end well", not bad, bad, more)
    finally:
        lab.close(); pg.stop()


for how in sys.argv[1:] or ("term", "kill9"):
    play(how)
end()
