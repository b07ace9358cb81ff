"""The key that sparekey signs with, where it is entered by a profile; as it is, and with `--force`.

Run: SK_VENV=… python3 caller.py. Expected: held as `[caller]`, "forced or not" (docs/explanation/safety.md); it is still active.
Before: the key of a profile that an accounts file names is deactivated, and `undo` cannot bring it back.
"""

from common import *

HERE, THERE = ACCOUNT, "444455556666"
DEPLOYER = user("deployer", 'age="60d"', f'age="30d",{IN_USE}')
SCENARIO = company(DEPLOYER, '[[account.role]]\nname="Admin"\ntrust=["*"]\n', f'[[account]]\nid="{THERE}"\n', DEPLOYER)
LAG = '[[fault]]\nkind="late-last-used"\nseconds=86400\n'


def without_key(env: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in env.items() if k not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}


def signing_key_stays(form, account, enter, force):
    """`enter` prepares the folder for a key and gives the environment and the options."""
    with Sandbox(SCENARIO + ("" if force else LAG)) as aws, folder() as d:
        key = aws.key("deployer", account=account)
        env, options = enter(aws, d, key)
        forced = ("--force", key.id, "--because", "old") if force else ()
        run(env, "plan", *options, "-o", d / "p.json", "--user", "deployer", *forced)
        seen = "no plan"
        if (d / "p.json").exists():
            made = json.loads((d / "p.json").read_text())
            done = run(env, "apply", *options, d / "p.json", "--yes")
            seen = f"apply rc {done.returncode}, {key.status}"
            if key.status != "Active":
                back = run(env, "undo", *options, run_id(made))
                check(f"{form}{', forced' * force}", False, f"{seen}; undo rc {back.returncode}, {key.status}")
                return
        check(f"{form}{', forced' * force}", True, seen)


def source_profile(aws, d, key):
    (d / "aws-creds").write_text(f"[base]\naws_access_key_id={key.id}\naws_secret_access_key={key.secret}\n")
    (d / "aws-config").write_text(f"[profile base]\n[profile adm]\nregion=us-east-1\nrole_arn=arn:aws:iam::{HERE}:role/Admin\nsource_profile=base\n")
    return without_key(env_of(aws, d)), ("--profile", "adm")


def accounts_file(aws, d, key):
    (d / "aws-creds").write_text(f"[bee]\naws_access_key_id={key.id}\naws_secret_access_key={key.secret}\n")
    (d / "aws-config").write_text("[profile bee]\nregion=us-east-1\n")
    (d / "acc.toml").write_text(f'[[account]]\nid="{THERE}"\nprofile="bee"\n')
    return env_of(aws, d), ("--accounts", d / "acc.toml")


if __name__ == "__main__":
    for force in (False, True):
        signing_key_stays("source_profile", HERE, source_profile, force)
        signing_key_stays("a profile of the accounts file", THERE, accounts_file, force)
    closing()
