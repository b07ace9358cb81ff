"""A plan that is edited after it was made.

Run: SK_VENV=… python3 forged_plan.py. Expected: an edit without a new digest is refused, and so is a plan of a year ago
whose `expires` says 2099, with a new digest (docs/explanation/safety.md: "less than 24 hours old"). Before: the old plan is carried out.
"""

from common import *

with Sandbox(company(IDLE)) as aws, folder() as d:
    env = env_of(aws, d)
    made = plan(env, d / "p.json")
    made["expires"] = "2099-01-01T00:00:00Z"
    (d / "p.json").write_text(json.dumps(made))
    done = run(env, "apply", d / "p.json", "--yes")
    check("edited, no new digest", done.returncode == 1 and not inactive(aws, "idle"), done.stderr[:80].strip())
    made["generated"] = "2025-01-01T00:00:00Z"
    forge(d / "p.json", made)
    done = run(env, "apply", d / "p.json", "--yes")
    check("a year old, new digest", done.returncode == 1 and not inactive(aws, "idle"), f"rc {done.returncode}, {inactive(aws, 'idle')} keys gone")
closing()
