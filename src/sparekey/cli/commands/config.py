"""`sparekey config`."""

import json
from pathlib import Path

import click

from sparekey.cli.help import command_group
from sparekey.cli.options import output_option
from sparekey.cli.output import print_report, write_output

_CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Policy file. Default: SPAREKEY_HOME/sparekey.toml.",
)


@command_group(
    "config",
    short_help="Check or show the policy.",
    category="Decide",
    examples=(
        ("sparekey config init", "write a policy file with every default"),
        ("sparekey config validate", "check it"),
    ),
)
def config_command() -> None:
    """Check or show the policy. Asks nothing of AWS."""


@config_command.command("init")
@_CONFIG
def init(config: Path | None) -> None:
    """Write a policy file with every threshold at its default, and examples to fill in.

    A file that exists is never overwritten.
    """
    from sparekey import app

    path = app.write_starter_policy(config)
    print_report(
        (f"{path} is written, with the defaults. Check it after editing: sparekey config validate\n",)
    )


@config_command.command("validate")
@_CONFIG
def validate(config: Path | None) -> None:
    """Check the whole policy: fields, patterns, probes, change windows and mutelists.

    Every command checks the same before it asks anything of AWS. Exit code 1: others may write a file; 2: the
    policy is wrong, and the file, the table and the field are named.
    """
    from sparekey import app
    from sparekey.formatting import clean, plural

    policy, path = app.load_policy(config), app.policy_file(config)
    if not path.exists():
        print_report((clean(f"There is no policy file {path}: the defaults hold.") + "\n",))
        return
    counts = (
        plural(len(policy.exempt), "exemption"),
        plural(len(policy.rotators), "rotator"),
        plural(len(policy.never_reactivate), "never_reactivate entry", "never_reactivate entries"),
        plural(len(policy.probes), "probe"),
        plural(len(policy.windows), "change window"),
    )
    print_report((clean(f"{path} is valid: {', '.join(counts)}; digest {policy.digest}") + "\n",))


@config_command.command("show")
@_CONFIG
@click.option(
    "--format",
    "format_",
    type=click.Choice(("table", "json")),
    default="table",
    show_default=True,
    help="Output format.",
)
@output_option
def show_policy(config: Path | None, format_: str, file: Path | None) -> None:
    """Show every field of the policy in force, its value and where the value is from.

    Defaults are included, and so are the exemptions that mutelists come to.
    """
    from sparekey import app
    from sparekey.formatting import clean

    settings = app.settings(config)
    if format_ == "json":
        rows = [
            {"field": setting.field, "value": setting.value, "source": setting.source} for setting in settings
        ]
        write_output((json.dumps(rows, indent=2), "\n"), file)
        return
    texts = [
        (setting.field, json.dumps(setting.value, ensure_ascii=False), setting.source) for setting in settings
    ]
    widths = [max(len(text[column]) for text in texts) for column in (0, 1)]
    lines = (
        clean(f"{field:{widths[0]}}  {value:{min(widths[1], 60)}}  {source}") + "\n"
        for field, value, source in texts
    )
    write_output(lines, file)
