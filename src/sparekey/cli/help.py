"""How a command explains itself: options in groups, and examples at the end."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import click

from sparekey.cli.verbosity import add_verbosity_options

# In the order of the overview; each command names its category.
CATEGORIES = ("Look", "Decide", "Act", "Watch", "Evidence", "Set up")
# Under which title an option stands, by its parameter's name; the others are the command's own.
_TITLES: Mapping[str, tuple[str, ...]] = {
    "Options": (),
    "Usage source": (
        "usage",
        "source",
        "since",
        "until",
        "usage_accounts",
        "usage_regions",
        "max_pages",
        "processes",
        "workgroup",
        "athena_output",
    ),
    "Accounts": ("org", "units", "include", "exclude_accounts", "accounts_file"),
    "AWS access": ("profile", "region", "role", "external_id", "session_duration", "mode"),
    "Limits": ("max_keys", "max_share", "max_account_keys", "max_account_share"),
    "Output": ("format_", "file", "no_pager", "targets", "quiet", "verbose", "debug"),
    "State and policy": ("config", "database_url"),
}
_TITLE_OF = {name: title for title, names in _TITLES.items() for name in names}


class Command(click.Command):
    """A command of one category of the overview, with examples: pairs of a command line and what it does."""

    def __init__(
        self, *args: Any, category: str = "Set up", examples: Sequence[tuple[str, str]] = (), **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.category, self.examples = category, examples
        add_verbosity_options(self)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their titles."""
        for title, records in option_groups(self, ctx).items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_examples(self.examples, formatter)


def option_groups(command: click.Command, context: click.Context) -> dict[str, list[tuple[str, str]]]:
    """The options of a command under their titles, as (option, what it does)."""
    rows: dict[str, list[tuple[str, str]]] = {title: [] for title in _TITLES}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and isinstance(parameter, click.Option):
            rows[_TITLE_OF.get(parameter.name or "", "Options")].append(record)
    return {title: records for title, records in rows.items() if records}


class CommandGroup(click.Group):
    """Commands below a command, with examples."""

    command_class = Command

    def __init__(
        self, *args: Any, category: str = "Set up", examples: Sequence[tuple[str, str]] = (), **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.category, self.examples = category, examples

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_examples(self.examples, formatter)


def write_examples(examples: Sequence[tuple[str, str]], formatter: click.HelpFormatter) -> None:
    """Write each command line below what it does."""
    if not examples:
        return
    with formatter.section("Examples"):
        for line, what in examples:
            formatter.write(f"{'':{formatter.current_indent}}# {what}\n")
            formatter.write(f"{'':{formatter.current_indent}}{line}\n")


command: Callable[..., Callable[[Callable[..., Any]], click.Command]] = partial(click.command, cls=Command)
command_group: Callable[..., Callable[[Callable[..., Any]], click.Group]] = partial(
    click.group, cls=CommandGroup
)
