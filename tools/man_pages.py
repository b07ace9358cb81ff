"""The man pages, from the same commands as the help: one page a command, man/*.1."""

from collections.abc import Iterator

import click

from sparekey import __version__
from sparekey.cli import cli as commands
from sparekey.cli.help import option_groups
from sparekey.cli.topics import ENVIRONMENT, EXIT_CODES


def man_pages() -> dict[str, str]:
    """Each page by its name, such as `sparekey-undo.1`."""
    whole = click.Context(commands, info_name="sparekey", **commands.context_settings)
    pages = {"sparekey.1": _page(whole, list(_overview(commands)))}
    for context in _contexts(commands, whole):
        pages[f"{context.command_path.replace(' ', '-')}.1"] = _page(context, [])
    return pages


def _contexts(group: click.Group, parent: click.Context) -> Iterator[click.Context]:
    for name, command in sorted(group.commands.items()):
        context = click.Context(command, info_name=name, parent=parent)
        yield context
        if isinstance(command, click.Group):
            yield from _contexts(command, context)


def _overview(group: click.Group) -> Iterator[str]:
    yield ".SH COMMANDS"
    for name, command in sorted(group.commands.items()):
        yield f".TP\n\\fBsparekey {_escaped(name)}\\fR(1)\n{_escaped(command.get_short_help_str(limit=100))}"
    yield ".SH EXIT STATUS"
    for code, what in EXIT_CODES:
        yield f".TP\n{_escaped(code)}\n{_escaped(what)}"
    yield ".SH ENVIRONMENT"
    for name, what in ENVIRONMENT:
        yield f".TP\n{_escaped(name)}\n{_escaped(what)}"


def _page(context: click.Context, more: list[str]) -> str:
    command, path = context.command, context.command_path
    name = path.replace(" ", "-")
    lines = [
        f'.TH {_escaped(name).upper()} 1 "" "sparekey {__version__}" "sparekey"',
        ".SH NAME",
        f"{_escaped(name)} \\- {_escaped(command.get_short_help_str(limit=100).rstrip('.'))}",
        ".SH SYNOPSIS",
        f"\\fB{_escaped(path)}\\fR {_escaped(' '.join(command.collect_usage_pieces(context)))}",
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
    ]
    for title, records in option_groups(command, context).items():
        lines.append(f'.SH "{_escaped(title).upper()}"')
        lines += [f".TP\n\\fB{_escaped(option)}\\fR\n{_escaped(what)}" for option, what in records]
    if examples := getattr(command, "examples", ()):
        lines.append(".SH EXAMPLES")
        for line, what in examples:
            lines.append(
                f"{_escaped(what[:1].upper() + what[1:])}:\n.PP\n.nf\n.RS\n{_escaped(line)}\n.RE\n.fi\n.PP"
            )
    return "\n".join([*lines, *more, '.SH "SEE ALSO"', "\\fBsparekey\\fR(1)"]) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.replace("\b", "").split("\n\n")):
        yield (".PP\n" if number else "") + _escaped(" ".join(paragraph.split()))


def _escaped(text: str) -> str:
    """Text that roff prints as it is: no escapes, no requests, hyphens that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
