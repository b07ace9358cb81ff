"""Kill -9 of worker and apply at random moments, watch and probes under way: `t1_kill.py [SEED [URL [WORKERS]]]`."""

from lab import *


def play(seed, url="", workers=1, seconds=50):
    random.seed(seed)
    lab = Lab(company(12, seed=f"k{seed}"), HTTP.format(watch="20m", every="2s"), url=url)
    lab.aws.state.faults.append(sc.Stale(seconds=3, flapping=True))
    kills, log, again = 0, [], ("apply", "plan.json", "--yes", "--waves", "4,rest", "--healthy-for", "15s")
    try:
        lab.plan()
        down = {"now": False}
        lab.health.say["app"] = lambda: 500 if down["now"] else 200
        ws = [lab.worker(wait=(i == 0)) for i in range(workers)]
        ap = lab.spawn(*again)
        wait_for(lab.inactive, 90, 0.2)
        run, begun = lab.runid(), time.time()
        while time.time() - begun < seconds:
            time.sleep(random.uniform(0.5, 7))
            if random.random() < 0.25:
                if ap.poll() is None:
                    ap.kill(); ap.wait(); kills += 1
                ap = lab.spawn(*again)
            else:
                i = random.randrange(len(ws))
                if ws[i].poll() is not None: log.append(("worker ended by itself", ws[i].returncode, tail(ws[i])))
                else: ws[i].kill(); ws[i].wait(); kills += 1
                ws[i] = lab.worker(wait=False)
            if lab.without_active(): log.append(("no active key", lab.without_active()))
        calm = wait_for(lambda: all(s in ("watching", "unwatched", "held", "failed") for s in lab.states(run).values()), 60, 0.5)
        form(f"seed {seed}: {kills} kills, every key is watched or held afterwards", calm, lab.states(run))
        down["now"], t = True, time.time()
        back = wait_for(lambda: "watching" not in lab.states(run).values(), 62, 0.3)
        note("rollback after", round(time.time() - t, 1), "s")
        form("unhealthy: every watched key is reactivated within a minute and the interval", back, lab.states(run))
        wait_for(lambda: "reactivating" not in lab.states(run).values(), 60, 1)
        form("no worker ended by itself, no user lost every active key", not log, log)
        if ap.poll() is None: ap.terminate()
        bad, state, counts = lab.check(run)
        form("verify and undo end well", not bad, bad, state, counts)
    finally:
        lab.close()


if __name__ == "__main__":
    play(int(sys.argv[1]) if len(sys.argv) > 1 else 1, sys.argv[2] if len(sys.argv) > 2 else "", int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    end()
