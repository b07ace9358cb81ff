"""The printed IAM policies against the calls that are really made.

Run: SK_VENV=… python3 least_policy.py. Expected: with each policy its commands work, nothing else is asked for, and no key
can be changed with the one for audit. Before: so.
"""

from common import *

THERE = "444455556666"


def allowed(*args: str) -> list[str]:
    with folder() as d:
        document = json.loads(run(env_of(None, d), "iam-policy", *args).stdout)
    return sorted({action for statement in document["Statement"] for action in statement["Action"]})


def roles() -> dict[str, list[str]]:
    with folder() as d:
        template = json.loads(run(env_of(None, d), "iam-policy", "stackset").stdout)
    policies = {name: r["Properties"]["Policies"][0]["PolicyDocument"]["Statement"] for name, r in template["Resources"].items()}
    return {name: sorted({action for statement in statements for action in statement["Action"]}) for name, statements in policies.items()}


def scenario(ops: list[str], member: dict[str, list[str]]) -> str:
    head = company(IDLE).replace('name="ops"\n', f'name="ops"\nallow={json.dumps(ops)}\n', 1)
    role = '[[account.role]]\nname="{}"\nexternal_id="xx-1"\ntrust=["111122223333"]\nallow={}\n'
    return f'{head}[[account]]\nid="{THERE}"\n' + "".join(role.format(n, json.dumps(a)) for n, a in member.items()) + IDLE + f'[organization]\nmanagement="{ACCOUNT}"\n'


def asked(form: str, aws: Sandbox, policy: list[str]) -> None:
    denied = {call.action for call in aws.state.calls if call.error and "Denied" in call.error}
    beyond = {call.action for call in aws.state.calls} - set(policy) - {"sts:GetCallerIdentity"}
    check(form, not denied and not beyond, f"denied {sorted(denied)}, beyond {sorted(beyond)}")


audit, apply, audit_org, apply_org = allowed("audit"), allowed("apply"), allowed("audit", "--org"), allowed("apply", "--org")
member = roles()
with Sandbox(scenario(audit, {})) as aws, folder() as d:
    env = env_of(aws, d)
    for args in (("audit",), ("audit", "--read", "report"), ("plan", "-o", d / "p.json", "--usage", "history"), ("root-keys",)):
        run(env, *args)
    asked("audit, plan, root-keys with the policy for audit", aws, audit)
    done = run(env, "apply", d / "p.json", "--yes")
    check("apply with the policy for audit", done.returncode == 1 and not inactive(aws, "idle"), f"rc {done.returncode}")
with Sandbox(scenario(apply, {})) as aws, folder() as d:
    env = env_of(aws, d)
    made = plan(env, d / "p.json")
    codes = run(env, "apply", d / "p.json", "--yes").returncode, run(env, "undo", run_id(made)).returncode
    asked(f"plan, apply, undo with the policy for apply, rc {codes}", aws, apply)
with Sandbox(scenario(apply_org, member)) as aws, folder() as d:
    env, enter = env_of(aws, d), ("--role", "SparekeyApply", "--external-id", "xx-1")
    plan(env, d / "p.json", "--org", *enter)
    done = run(env, "apply", *enter, d / "p.json", "--yes")
    check("apply in a member account", inactive(aws, "idle", THERE) == 1, f"rc {done.returncode}")
    asked("plan, apply in an organization", aws, sorted({*apply_org, *member["SparekeyApply"]}))
    done = run(env, "plan", "--org", "--role", "SparekeyApply")
    check("no external id, no way in", done.returncode == 4, f"rc {done.returncode}")
with Sandbox(scenario(audit_org, member)) as aws, folder() as d:
    env, enter = env_of(aws, d), ("--role", "SparekeyAudit", "--external-id", "xx-1")
    codes = run(env, "audit", "--org", *enter).returncode, run(env, "root-keys", *enter).returncode
    asked(f"audit, root-keys in an organization, rc {codes}", aws, sorted({*audit_org, *member["SparekeyAudit"]}))
closing()
