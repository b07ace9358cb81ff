"""A password in AWS_ENDPOINT_URL (a proxy in front of AWS that asks for one).

Run: SK_VENV=… python3 endpoint_password.py. Expected: it is shown nowhere and kept nowhere. Before: `apply` shows it in the
lines that reverse a run by hand, the state directory and the export of the ledger keep it, and an error shows it.
"""

from common import *

PASSWORD = "hunter2secret"
with Sandbox(company(IDLE)) as aws, folder() as d:
    env = env_of(aws, d)
    env["AWS_ENDPOINT_URL"] = env["AWS_ENDPOINT_URL"].replace("http://", f"http://user:{PASSWORD}@")
    done = run(env, "plan", "-o", d / "p.json")
    check("plan shows it not", PASSWORD not in done.stdout + done.stderr, f"rc {done.returncode}")
    done = run(env, "apply", d / "p.json", "--yes")
    check("apply shows it not", PASSWORD not in done.stdout + done.stderr, f"rc {done.returncode}")
    kept = sorted(str(p.relative_to(d)) for p in d.rglob("*") if p.is_file() and PASSWORD.encode() in p.read_bytes())
    check("no file keeps it", not kept, ", ".join(kept))
    check("the ledger's export shows it not", PASSWORD not in run(env, "ledger", "export").stdout)
    done = run(env | {"AWS_ENDPOINT_URL": f"http://user:{PASSWORD}@127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "audit")
    check("an error shows it not", PASSWORD not in done.stdout + done.stderr, done.stderr.splitlines()[0])
closing()
