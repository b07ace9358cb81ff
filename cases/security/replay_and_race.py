"""A plan that is applied again after undo, and two people who want opposite keys to go at the same time.

Run: SK_VENV=… python3 replay_and_race.py (some minutes). Expected: an undone run is not carried out again; whatever the
readings show, the user keeps an active key. Before: so.
"""

import threading
import time

from common import *

with Sandbox(company(IDLE)) as aws, folder() as d:
    env = env_of(aws, d)
    made = plan(env, d / "p.json")
    run(env, "apply", d / "p.json", "--yes")
    run(env, "undo", run_id(made))
    done = run(env, "apply", d / "p.json", "--yes")
    check("applied again after undo", done.returncode == 1 and not inactive(aws, "idle"), done.stderr.splitlines()[0])

FAULTS = {
    "true readings": "",
    "readings stale by 8 s, flapping": '[[fault]]\nkind="stale"\nseconds=8\nflapping=true\n',
    "readings stale by 25 s": '[[fault]]\nkind="stale"\nseconds=25\n',
}
for form, fault in FAULTS.items():
    with Sandbox(company(IDLE) + fault) as aws, folder() as one, folder() as other:
        homes, codes = (one, other), [0, 0]
        for home, key in zip(homes, keys(aws, "idle")):
            plan(env_of(aws, home), home / "p.json", "--force", key, "--because", "test")

        def go(n: int) -> None:
            time.sleep(n * 0.3)
            codes[n] = run(env_of(aws, homes[n]), "apply", homes[n] / "p.json", "--yes", timeout=500).returncode

        threads = [threading.Thread(target=go, args=(n,)) for n in (0, 1)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        check(f"opposite choices, {form}", inactive(aws, "idle") < 2, f"rc {codes}, {sorted(keys(aws, 'idle').values())}")
closing()
