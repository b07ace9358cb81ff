"""`sparekey completion`."""

import click

from sparekey.cli.help import command
from sparekey.cli.output import print_report


@command(
    "completion",
    short_help="Print a completion script for your shell.",
    category="Set up",
    examples=(
        ('eval "$(sparekey completion bash)"', "in ~/.bashrc"),
        ("sparekey completion fish > ~/.config/fish/completions/sparekey.fish", "for fish"),
    ),
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and formats in bash, zsh or fish."""
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    if completion is None:
        raise AssertionError(f"click has no completion for {shell}")
    script = completion(context.find_root().command, {}, "sparekey", "_SPAREKEY_COMPLETE")
    # `source` of the class asks the installed bash for its version, which a container may not have.
    print_report((script.source_template % script.source_vars(), "\n"))
