"""`sparekey help`."""

import click

from sparekey.cli.help import command
from sparekey.cli.output import print_report
from sparekey.cli.topics import TOPICS


@command(
    "help",
    short_help="Explain a command or a topic.",
    category="Set up",
    examples=(
        ("sparekey help apply", "the same as sparekey apply --help"),
        ("sparekey help exit-codes", "what each exit code means"),
    ),
)
@click.argument("words", nargs=-1, metavar="[COMMAND|TOPIC]")
@click.pass_context
def help_command(context: click.Context, words: tuple[str, ...]) -> None:
    """Explain a command or a topic: credentials, environment, exit-codes or policy."""
    from sparekey.errors import BadInputError

    if words[:1] and words[0] in TOPICS and len(words) == 1:
        print_report((TOPICS[words[0]],))
        return
    of = context.find_root()
    for word in words:
        group = of.command
        found = group.get_command(of, word) if isinstance(group, click.Group) else None
        if found is None:
            raise BadInputError(
                f"there is no command or topic {word!r}",
                f"`sparekey --help` lists the commands; topics: {', '.join(TOPICS)}.",
            )
        of = click.Context(found, info_name=word, parent=of)
    print_report((of.command.get_help(of), "\n"))
