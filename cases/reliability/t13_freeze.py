"""A worker is stopped with SIGSTOP in mid-watch, on PostgreSQL and on SQLite: does another take over, and do the two agree afterwards?"""

from lab import *
from pg import PG


def play(url, what):
    lab = Lab(company(4, seed="fr"), HTTP.format(watch="10m", every="2s"), url=url)
    try:
        lab.plan(); w1 = lab.worker(); w2 = lab.worker()
        lab.cli("apply", "plan.json", "--yes"); run = lab.runid()
        wait_for(lambda: set(lab.states(run).values()) == {"watching"}, 30); time.sleep(3)
        w1.send_signal(signal.SIGSTOP); lab.health.say["app"] = 500; t = time.time()
        back = wait_for(lambda: not lab.inactive(), 62, 0.3); note(what, "first worker frozen: reactivated after", round(time.time() - t, 1), "s")
        form(f"{what}: the first worker is frozen: every key is reactivated", back, lab.states(run), tail(w2))
        if not back: w1.send_signal(signal.SIGCONT); return
        w1.send_signal(signal.SIGCONT); time.sleep(6)
        form(f"{what}: thawed, both live", w1.poll() is None and w2.poll() is None, tail(w1), tail(w2))
        bad, *more = lab.check(run); form(f"{what}: verify and undo end well", not bad, bad, more)
    finally: lab.close()


play("", "SQLite")
pg = PG()
try: play(pg.url, "PostgreSQL")
finally: pg.stop()
end()
