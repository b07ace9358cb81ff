"""PostgreSQL is killed in mid-watch and stays away while a probe turns red, with two workers; then it is there again."""

from lab import *
from pg import PG

pg = PG()
lab = Lab(company(4, seed="away"), HTTP.format(watch="10m", every="2s"), url=pg.url)
try:
    lab.plan(); w1 = lab.worker(); w2 = lab.worker()
    lab.cli("apply", "plan.json", "--yes"); run = lab.runid()
    wait_for(lambda: set(lab.states(run).values()) == {"watching"}, 30); time.sleep(3)
    pg.kill9(); lab.health.say["app"] = 500; t = time.time()
    back = wait_for(lambda: not lab.inactive(), 63, 0.3); note("reactivated after", round(time.time() - t, 1), "s without a database")
    form("away: unhealthy without a database, every key is reactivated", back, tail(w1), tail(w2))
    form("away: a worker says by what it watches", "watched by what is known without it" in tail(w1, 9000) + tail(w2, 9000), tail(w1), tail(w2))
    time.sleep(3); pg.start(); t = time.time()
    recorded = wait_for(lambda: set(lab.states(run).values()) == {"rolled_back"}, 70, 1); note("on record after", round(time.time() - t, 1), "s")
    form("away: the database is there again, what came back is put on record", recorded, lab.states(run), tail(w1), tail(w2))
    form("away: both workers live", w1.poll() is None and w2.poll() is None, tail(w1), tail(w2))
    bad, *more = lab.check(run); form("away: verify and undo end well", not bad, bad, more)
    form("away: no traceback", "Traceback" not in w1.log.read_text() + w2.log.read_text(), tail(w1), tail(w2))
finally: lab.close(); pg.stop()
end()
