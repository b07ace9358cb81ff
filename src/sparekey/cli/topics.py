"""What is to be known about all commands: the topics of `sparekey help`."""

from collections.abc import Mapping

# Pairs of an exit code and what it means; docs/reference/cli.md is written from them, too.
EXIT_CODES = (
    (
        "0",
        "done: no spare keys (audit), the plan is made, or its keys are deactivated; held keys do not matter",
    ),
    ("1", "an error: what failed, and what to do next"),
    (
        "2",
        "the command was not understood and nothing was changed; plan --detailed-exitcode: keys can be deactivated",
    ),
    (
        "3",
        "spare keys found (audit); keys held (plan, apply, resume with --fail-on-held); keys kept (delete)",
    ),
    ("4", "something could not be read, whatever else was found"),
    ("130", "interrupted"),
)
ENVIRONMENT = (
    ("AWS_PROFILE, …", "the usual AWS credential chain, as botocore reads it"),
    ("AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_IAM", "another server than AWS, such as the sandbox"),
    ("SPAREKEY_HOME", "state directory and policy; default: the platform's directory for state"),
    ("SPAREKEY_DATABASE_URL", "postgresql://… instead of SQLite in the state directory"),
    ("SPAREKEY_DEBUG", "show the types and places of an error, without texts that could hold a secret"),
    ("PAGER, NO_COLOR, COLUMNS", "as other programs read them"),
)
_CREDENTIALS = """\
sparekey uses the credentials that the AWS CLI would use: --profile, environment variables, SSO, an instance or
container role. `sparekey doctor` shows which identity that is.

  --profile NAME       a profile of ~/.aws/config
  --role NAME          assume this role in every other account of --org
  --accounts FILE      accounts, each with its role or profile
  --external-id ID     the external id that the role requires

Reading needs the policy that `sparekey iam-policy audit` prints, and a run the one of `sparekey iam-policy apply`.
`sparekey iam-policy stackset` prints a CloudFormation template with a role for each in every member account.

A key that signs sparekey's own calls is never deactivated. A worker needs credentials that can be renewed: a role,
not a session that ends.
"""
_POLICY = """\
The policy is sparekey.toml in SPAREKEY_HOME, or the file named by --config. `sparekey config init` writes one with
every default, `sparekey config validate` checks it, `sparekey config show` prints what is in force.

  max_key_age = "90d"   a key is young below this age; only a young key is kept
  settle = "7d"         a younger key is never deactivated: its use may not show yet
  quiet = "45d"         a key that was not used for this long is idle
  cutover_quiet = "7d"  how long a used key must be unused before it can be released
  watch = "8d"          how long a deactivated key is monitored
  [[exempt]]            a user who may have spare keys, with owner, reason and expiry
  [[rotators]]          users whose keys another tool rotates
  [[probes]]            health checks that cover users; an unhealthy one reactivates their keys
  windows = [...]       when keys may be deactivated

docs/reference/policy.md has every field.
"""


def _table(rows: tuple[tuple[str, str], ...]) -> str:
    import textwrap

    lines = []
    for name, what in rows:
        lines += textwrap.wrap(
            what, 100, initial_indent=f"  {name:5} ", subsequent_indent=" " * 8, break_long_words=False
        )
    return "\n".join(lines) + "\n"


def _environment() -> str:
    return "".join(f"  {name}\n      {what}\n" for name, what in ENVIRONMENT)


TOPICS: Mapping[str, str] = {
    "credentials": _CREDENTIALS,
    "environment": _environment(),
    "exit-codes": _table(EXIT_CODES),
    "policy": _POLICY,
}
