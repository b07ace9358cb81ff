"""Kill -9 of one of two workers and of apply at random moments, on PostgreSQL: `t1_pg.py [SEED]`."""

from lab import *
from pg import PG
from t1_kill import play

pg = PG()
try:
    play(int(sys.argv[1]) if len(sys.argv) > 1 else 1, pg.url, 2)
finally:
    pg.stop()
end()
