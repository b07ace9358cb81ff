"""The command line: it parses and renders, nothing else. Heavy imports are late: `--help` answers at once."""

import io
import os
import sys
import threading
from itertools import pairwise

import click

from sparekey import __version__
from sparekey.cli import commands
from sparekey.cli.failures import report_thread_failure, run_guarded
from sparekey.cli.help import CATEGORIES
from sparekey.cli.topics import TOPICS


class _Commands(click.Group):
    """All verbs; none of them sees an empty argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what is given and empty: for a verb it would mean "not given", which is mostly "all"."""
        for before, arg in pairwise(["", *args]):
            name, sign, value = arg.partition("=") if arg.startswith("--") else (before, "=", arg)
            if sign and not value:
                from sparekey.errors import BadInputError  # late: `--help` answers at once

                raise BadInputError(
                    f"{name if name.startswith('-') else 'an argument'} is given and empty",
                    "A shell variable that is not set may be the cause. Give a value, or leave it out."
                    " Nothing was changed.",
                )
        return super().parse_args(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in the categories that a user's work has, instead of one list."""
        width = max(map(len, self.commands))
        for category in CATEGORIES:
            rows = [
                (name.ljust(width), command.get_short_help_str(limit=100))
                for name, command in self.commands.items()
                if getattr(command, "category", "") == category
            ]
            with formatter.section(category):
                formatter.write_dl(rows)

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name where a newcomer starts, and the topics."""
        formatter.write_paragraph()
        formatter.write_text(
            "Start with `sparekey demo`, then `sparekey doctor` and `sparekey audit`. `sparekey help TOPIC` explains "
            f"{', '.join(TOPICS)}."
        )


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "-V", "--version", prog_name="sparekey")
def cli() -> None:
    """One working access key per AWS IAM user.

    sparekey finds the spare keys, proves which key is used, deactivates the others, monitors, reactivates what
    breaks, and leaves evidence. It reads until you run `apply`; it never deletes unless you run `delete`.
    """


for _command in commands.all_commands():
    cli.add_command(_command)


def _open_standard_streams() -> None:
    """Give the process the streams that it was started without: they lead nowhere.

    Else the next file that is opened, such as the ledger, would have the number of stderr, and be written to.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # as long as the process


def main() -> None:
    """The console script: every failure ends in one sentence, a hint and an exit code."""
    if os.name == "nt":
        sys.stderr.write(
            "error: sparekey does not run on Windows: its state is protected by POSIX file locks and permissions\n"
            "hint: Use WSL, Linux, macOS or the container. Nothing was read or changed.\n"
        )
        sys.exit(1)
    _open_standard_streams()
    threading.excepthook = report_thread_failure
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a name that the terminal cannot show is no failure
    sys.exit(run_guarded(cli))
