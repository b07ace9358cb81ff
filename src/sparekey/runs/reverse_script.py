"""The AWS CLI lines that bring back by hand what a plan would deactivate."""

import shlex
from collections.abc import Callable

from sparekey.aws.accounts import Target
from sparekey.errors import without_password
from sparekey.formatting import clean
from sparekey.plan import Plan


def reverse_commands(
    plan: Plan,
    *,
    profile: str = "",
    region: str = "",
    endpoint_url: str = "",
    target_of: Callable[[str], Target | None] = lambda _account: None,
) -> tuple[str, ...]:
    """One line for each key, under a comment that names the account and, where it is entered by one, the role.

    `target_of` returns how another account is entered. An account with a profile of its own gets that profile; in
    one that is entered by a role, the commands need that role's credentials. The lines are kept in the ledger and in
    a file: a password in the endpoint's address is left out.
    """
    endpoint = without_password(endpoint_url)
    lines: list[str] = []
    options: list[str] = []
    account = ""
    for step in plan.writes:
        if step.account != account:
            account = step.account
            target = target_of(account)
            role = target.roles[-1] if target and target.roles else ""
            with_profile = target.profile if target else profile
            flags = (
                ("--profile", "" if role else with_profile),
                ("--region", region),
                ("--endpoint-url", endpoint),
            )
            options = [word for option, value in flags if value for word in (option, value)]
            # A forged plan's account could end the comment and begin a command.
            heading = f"# account {account}" + (f", with credentials of {role}" if role else "")
            lines.append(clean(heading).replace("\n", " "))
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
