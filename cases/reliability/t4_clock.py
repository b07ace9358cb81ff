"""The clock of the worker's machine steps ahead or back for some seconds: is a red probe noticed, is a gap on record? `[OFFSET SECONDS WATCH]`"""

from lab import *


def play(off, secs, watch):
    lab = Lab(company(2, seed="ck"), HTTP.format(watch=watch, every="2s"))
    offset = lab.dir / "ft"; offset.write_text("0")
    try:
        lab.plan(); w = lab.worker(env=dict(H_OFFSET_FILE=str(offset), PYTHONPATH=SITE))
        lab.cli("apply", "plan.json", "--yes"); run = lab.runid()
        time.sleep(4)
        offset.write_text(off); time.sleep(secs); offset.write_text("0")
        n = len(lab.health.asked["app"]); time.sleep(12)
        form(f"{off} s for {secs} s: asked again once the clock is right", len(lab.health.asked["app"]) - n >= 4, len(lab.health.asked["app"]) - n)
        lab.health.say["app"] = 500; t = time.time()
        back = wait_for(lambda: not lab.inactive(), 62, 0.5)
        note("reactivated after", round(time.time() - t, 1), "s")
        form(f"{off} s for {secs} s: unhealthy, every key is reactivated", back, lab.states(run), lab.observations(run), tail(w, 300))
        wait_for(lambda: "reactivating" not in lab.states(run).values(), 30, 0.5)
        bad, *more = lab.check(run)
        form("verify and undo end well", not bad, bad, more)
    finally: lab.close()


for given in [sys.argv[1:4]] if len(sys.argv) > 3 else [("3600", 8, "10d"), ("-3600", 8, "10d"), ("90", 20, "10m")]:
    play(str(given[0]), float(given[1]), given[2])
end()
