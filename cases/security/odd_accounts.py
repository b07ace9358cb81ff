"""Odd statuses, more than two keys, and what changes between plan and apply.

Run: SK_VENV=… python3 odd_accounts.py. Expected: as each form says; no user loses the last active key. Before: so.
"""

import copy

from common import *

with Sandbox(
    company(
        user("expired-beside-idle", 'age="400d",status="Expired"', 'age="30d"'),
        user("newest-expired", 'age="400d"', f'age="80d",{IN_USE}', 'age="10d",status="Expired"'),
        user("newest-inactive", 'age="400d"', 'age="10d",status="Inactive"'),
        user("five-one-used", 'age="400d"', 'age="300d"', 'age="200d"', f'age="30d",{IN_USE}', 'age="20d"'),
        user("just-created", 'age="400d"', 'age="0s"'),
    )
) as aws, folder() as d:
    env = env_of(aws, d)
    plan(env, d / "p.json")
    run(env, "apply", d / "p.json", "--yes")
    for name, wanted in {
        "expired-beside-idle": ["Expired", "Active"],
        "newest-expired": ["Inactive", "Active", "Expired"],
        "newest-inactive": ["Active", "Inactive"],
        "five-one-used": ["Inactive", "Inactive", "Inactive", "Active", "Inactive"],
        "just-created": ["Active", "Active"],
    }.items():
        check(name, list(keys(aws, name).values()) == wanted, list(keys(aws, name).values()))

USERS = [user(name, 'age="400d"', f'age="30d",{IN_USE}') for name in ("kept-off", "used-since", "used-since-and-hidden")]
with Sandbox(company(*USERS, user("third-key", 'age="400d"', 'age="30d"'))) as aws, folder() as d:
    env = env_of(aws, d)
    made = plan(env, d / "p.json")
    steps = {step["user"]: step for step in made["steps"]}
    client(env, "iam").update_access_key(UserName="kept-off", AccessKeyId=steps["kept-off"]["keep"], Status="Inactive")
    for name in ("used-since", "used-since-and-hidden"):
        client(aws.env(name, key=1), "sts").get_caller_identity()
    step = steps["used-since-and-hidden"]
    step["preconditions"]["last_used"][step["key"]] = "2030-01-01T00:00:00Z"
    forge(d / "p.json", made)
    third = copy.copy(aws.key("third-key", number=2))  # IAM has been seen to give more than two
    third.id, third.created, third.uses, third.statuses = "AKIATHIRDKEYTHIRDKEY", aws.clock.now(), [], [(aws.clock.now(), "Active")]
    aws.state.add_key(third)
    done = run(env, "apply", d / "p.json", "--yes", "--max-keys", "99")
    for name, gone in {"kept-off": 1, "used-since": 0, "used-since-and-hidden": 0, "third-key": 0}.items():
        check(f"{name} after the plan", inactive(aws, name) == gone and done.returncode == 0, list(keys(aws, name).values()))

THERE = "444455556666"
with Sandbox(company(IDLE, f'[[account]]\nid="{THERE}"\n', IDLE, user("boss", 'age="20d"'))) as aws, folder() as d:
    env = env_of(aws, d)
    file = policy(d, 'quiet="45d"\n')
    plan(env, d / "p.json")
    done = run(env | aws.env("boss", account=THERE), "apply", d / "p.json", "--yes")
    check("another account's plan, same user name", done.returncode == 1 and not inactive(aws, "idle", THERE), done.stderr.splitlines()[0])
    file.write_text('quiet="32d"\n')
    done = run(env, "apply", d / "p.json", "--yes")
    check("policy changed", done.returncode == 1 and not inactive(aws, "idle"), done.stderr.splitlines()[0])
    file.write_text('quiet="45d"\n')
    file.chmod(0o660)
    done = run(env, "apply", d / "p.json", "--yes")
    check("policy that the group may write", done.returncode and not inactive(aws, "idle"), done.stderr.splitlines()[0].replace(str(d), "…"))
closing()
