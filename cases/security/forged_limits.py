"""Plans with a new digest that lie about how many keys were read, about a forced step, or name a key twice.

Run: SK_VENV=… python3 forged_limits.py. Expected: the limits of a run hold, the text that is shown does not lie, and a
key that stands twice is refused. Before: with `active_keys` set to 100000 all keys go although they are too many; a forced
step is shown as "not used for 45 days" although the key is in use.
"""

from common import *

CROWD = f'[[account.many]]\nprefix="c"\ncount=5\nkey=[{{age="400d"}},{{age="30d",{IN_USE}}}]\n'
with Sandbox(company(CROWD)) as aws, folder() as d:
    env = env_of(aws, d)
    gone = lambda: sum(inactive(aws, f"c{n}") for n in range(1, 6))
    made = plan(env, d / "p.json")
    done = run(env, "apply", d / "p.json", "--yes", "--max-keys", 2)
    check("5 of 11 keys, at most 2 or a fifth", done.returncode == 1 and not gone(), done.stderr.splitlines()[0])
    made["accounts"][0]["active_keys"] = 100000
    forge(d / "p.json", made)
    done = run(env, "apply", d / "p.json", "--yes", "--max-keys", 2)
    check("the same, active_keys 100000", done.returncode == 1 and not gone(), f"rc {done.returncode}, {gone()} keys gone")

with Sandbox(company(MONTHLY)) as aws, folder() as d:
    env = env_of(aws, d)
    made = plan(env, d / "p.json")
    step = made["steps"][0]
    old, used = step["key"], next(k for k in step["preconditions"]["statuses"] if k != step["key"])
    lie = f"not used for 45 days; {old} is in use"
    made["asked"] = {"keep": [], "force": {used: "x"}, "keep_old": True}
    step.update(action="deactivate", reason="forced", why=lie, release="", key=used, keep=old, evidence=[])
    forge(d / "p.json", made)
    done = run(env, "apply", d / "p.json", "--yes")
    check("a forced step whose text lies", lie not in done.stdout + done.stderr or not inactive(aws, "monthly"), next((l.strip() for l in done.stderr.splitlines() if lie in l), ""))

with Sandbox(company(IDLE)) as aws, folder() as d:
    env = env_of(aws, d)
    whole = (plan(env, d / "p.json"), (d / "p.json").read_text())[1]
    apply = lambda: run(env, "apply", d / "f.json", "--yes")
    made = json.loads(whole)
    made["steps"] *= 2
    forge(d / "f.json", made)
    check("a step twice", apply().returncode == 1)
    made = json.loads(whole)
    step = made["steps"][0]
    made["steps"].append(step | {"key": step["keep"], "keep": step["key"]})
    forge(d / "f.json", made)
    check("both keys would go", apply().returncode == 1)
    made = json.loads(whole)
    made["steps"][0]["key"] = made["steps"][0]["key"].lower()
    forge(d / "f.json", made)
    apply()
    check("a key id in small letters", not inactive(aws, "idle"))
closing()
