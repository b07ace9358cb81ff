"""The AWS CLI lines that bring back by hand what a plan would deactivate."""

import shlex

from sparekey.errors import without_password
from sparekey.formatting import clean
from sparekey.plan import Plan


def reverse_commands(
    plan: Plan, *, profile: str = "", region: str = "", endpoint_url: str = ""
) -> tuple[str, ...]:
    """One line for each key, under a comment that names the account whose credentials it needs.

    The lines are kept in the ledger and in a file: a password in the endpoint's address is left out.
    """
    endpoint = without_password(endpoint_url)
    flags = (("--profile", profile), ("--region", region), ("--endpoint-url", endpoint))
    options = [word for option, value in flags if value for word in (option, value)]
    lines: list[str] = []
    account = ""
    for step in plan.deactivations:
        if step.account != account:
            account = step.account
            # A forged plan's account could end the comment and begin a command.
            lines.append(clean(f"# account {account}").replace("\n", " "))
        # A name may begin with "-", an option to the AWS CLI, or with "=", a command to zsh.
        user = (
            [f"--user-name={step.user}"] if step.user.startswith(("-", "=")) else ["--user-name", step.user]
        )
        words = ["aws", "iam", "update-access-key", *user, "--access-key-id", step.key]
        command = shlex.join([*words, "--status", "Active", *options])
        if step.never_reactivate:
            # The command is kept, commented out: a person must choose it.
            why = clean(step.never_reactivate).replace("\n", " ")
            command = f"# never reactivated without a person ({why}): {clean(command)}".replace("\n", " ")
        lines.append(command)
    return tuple(lines)
