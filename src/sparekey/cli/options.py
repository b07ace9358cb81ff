"""Options that commands share: how to connect, what to read, the format."""

import os
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from sparekey.cli.output import ReportOutput

if TYPE_CHECKING:
    from sparekey.app import Connection, UsageRequest
    from sparekey.report import Subject

_F = TypeVar("_F", bound=Callable[..., Any])


def _use_database(_context: click.Context, _option: click.Parameter, url: str) -> None:
    if url:
        os.environ["SPAREKEY_DATABASE_URL"] = url


database_option = click.option(
    "--database-url",
    default="",
    metavar="URL",
    expose_value=False,
    callback=_use_database,
    help="PostgreSQL database for runs. Default: SPAREKEY_DATABASE_URL, which hides the password from other accounts.",
)
_CALLER = (
    click.option("--profile", metavar="NAME", help="AWS profile. Default: the AWS credential chain."),
    click.option("--region", metavar="NAME", help="AWS region; selects the partition."),
    click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Policy file. Default: SPAREKEY_HOME/sparekey.toml; never the current directory.",
    ),
    click.option("--role", default="", metavar="NAME", help="Role to assume in other accounts. No default."),
    click.option("--external-id", default="", metavar="ID", help="External id that the role requires."),
    click.option(
        "--session-duration", default="", metavar="TIME", help="Length of the role sessions, such as 1h."
    ),
    click.option(
        "--accounts",
        "accounts_file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Accounts and their roles or profiles: TOML, or c7n-org's accounts.yml.",
    ),
)
_MANY = (
    click.option("--org", is_flag=True, help="Every active account of the AWS organization."),
    click.option(
        "--ou",
        "units",
        multiple=True,
        metavar="ID",
        help="Only this organizational unit and those below it (repeatable).",
    ),
    click.option(
        "--include",
        multiple=True,
        metavar="WHICH",
        help="Only these accounts: id, name (* matches anything) or tag:KEY=VALUE (repeatable).",
    ),
    click.option(
        "--exclude-account",
        "exclude_accounts",
        multiple=True,
        metavar="WHICH",
        help="Leave these accounts out: id, name or tag:KEY=VALUE (repeatable).",
    ),
)


def connection_options(*, many: bool = False) -> Callable[[_F], _F]:
    """The options that say who asks, by which policy and where; the verb gets one `connect()` for them all.

    `many` adds the options that choose among the accounts of an organization.
    """
    options = (*_CALLER, *_MANY) if many else _CALLER
    names = (*_NAMES, *_MANY_NAMES) if many else _NAMES

    def decorate(command: _F) -> _F:
        @wraps(command)
        def verb(**arguments: Any) -> Any:
            choice = {name: arguments.pop(name) for name in names}
            return command(connect=lambda: _connect(**choice), **arguments)

        for option in reversed(options):
            verb = option(verb)
        return cast("_F", verb)

    return decorate


_NAMES = ("profile", "region", "config", "role", "external_id", "session_duration", "accounts_file")
_MANY_NAMES = ("org", "units", "include", "exclude_accounts")


def _connect(
    *,
    profile: str | None,
    region: str | None,
    config: Path | None,
    role: str,
    external_id: str,
    session_duration: str,
    accounts_file: Path | None,
    org: bool = False,
    units: tuple[str, ...] = (),
    include: tuple[str, ...] = (),
    exclude_accounts: tuple[str, ...] = (),
) -> "Connection":
    from sparekey import app

    where = app.account_choice(
        org=org or bool(units),
        accounts_file=accounts_file,
        units=units,
        include=include,
        exclude=exclude_accounts,
        role=role,
        external_id=external_id,
        session_duration=session_duration,
    )
    return app.connect(profile=profile, region=region, config=config, where=where)


read_option = click.option(
    "--read",
    "mode",
    type=click.Choice(("auto", "list", "report")),
    default="auto",
    show_default=True,
    help="list: list each user's keys. report: read the credential report, list users with spare keys. auto: "
    "report above 20 users.",
)


fail_on_held_option = click.option(
    "--fail-on-held", is_flag=True, help="Exit with 3 when keys are held, instead of 0."
)
notify_option = click.option(
    "--notify",
    "targets",
    multiple=True,
    metavar="TARGET",
    help="Notify slack:URL, webhook:URL, sns:ARN or mailto:ADDRESS (repeatable).",
)
_USAGE = (
    click.option(
        "--since",
        default="",
        metavar="TIME",
        help="Read events from this time on, such as 2026-10-01; UTC without a zone.",
    ),
    click.option("--until", default="", metavar="TIME", help="Read events before this time."),
    click.option(
        "--usage-account",
        "usage_accounts",
        multiple=True,
        metavar="ID",
        help="Only events of this account (repeatable).",
    ),
    click.option(
        "--usage-region",
        "usage_regions",
        multiple=True,
        metavar="NAME",
        help="Only events of this region (repeatable).",
    ),
    click.option(
        "--max-pages",
        type=click.IntRange(1),
        default=200,
        show_default=True,
        help="history: pages.",
    ),
    click.option(
        "--processes", type=click.IntRange(1), help="archive: worker processes. Default: one per processor."
    ),
    click.option(
        "--workgroup",
        default="",
        metavar="NAME",
        help="athena: workgroup that runs the query. Default: primary.",
    ),
    click.option(
        "--athena-output",
        default="",
        metavar="S3",
        help="athena: query results location (s3://…). Default: the workgroup's.",
    ),
)


# Whose option each is; the others are of every usage source.
_SOURCE_OF = {
    "max_pages": "history",
    "processes": "archive",
    "workgroup": "athena",
    "athena_output": "athena",
}
_SPEC = {"history": "history", "archive": "archive=PLACE", "athena": "athena=TABLE"}


def _refuse_options_of_others(source: str, athena_output: str) -> None:
    """Raise BadInputError for an option of a usage source that is not asked for: it would change nothing."""
    from sparekey.errors import BadInputError

    context = click.get_current_context()
    named = "--source" if any(option.name == "source" for option in context.command.params) else "--usage"
    default = click.core.ParameterSource.DEFAULT
    for option in _usage_parameters(context.command):
        name = option.name or ""
        wants = _SOURCE_OF.get(name)
        if context.get_parameter_source(name) is default or (
            source and wants in (None, source.split("=", maxsplit=1)[0])
        ):
            continue
        what = f"{named} {_SPEC[wants]}" if wants else f"a usage source ({named})"
        hint = f"Name the source: {named} {_SPEC[wants or 'history']}; or leave {option.opts[0]} out."
        raise BadInputError(f"{option.opts[0]} belongs to {what}, which is not asked for", hint)
    if athena_output and not athena_output.startswith("s3://"):
        raise BadInputError(
            f"--athena-output {athena_output} is not an s3:// location; Athena writes its results to S3 only",
            "Such as s3://bucket/prefix/. Nothing was read.",
        )


def _usage_parameters(command: click.Command) -> list[click.Parameter]:
    names = {"since", "until", "usage_accounts", "usage_regions", *_SOURCE_OF}
    return [option for option in command.params if option.name in names]


def usage_options(command: _F) -> _F:
    """How a usage source is read; the verb gets `usage_request(on_progress=…)` for them all.

    The source itself is the verb's option --usage or --source, empty for none; options of another one are refused.
    """

    @wraps(command)
    def verb(
        *,
        since: str,
        until: str,
        usage_accounts: tuple[str, ...],
        usage_regions: tuple[str, ...],
        max_pages: int,
        processes: int | None,
        workgroup: str,
        athena_output: str,
        **arguments: Any,
    ) -> Any:
        _refuse_options_of_others(arguments.get("usage", arguments.get("source", "")), athena_output)

        def wanted(**more: Any) -> "UsageRequest":
            from sparekey import app

            return app.usage_request(
                since=since,
                until=until,
                accounts=usage_accounts,
                regions=usage_regions,
                max_pages=max_pages,
                processes=processes,
                workgroup=workgroup,
                output=athena_output,
                **more,
            )

        return command(usage_request=wanted, **arguments)

    for option in reversed(_USAGE):
        verb = option(verb)
    return cast("_F", verb)


_REPORT_FORMATS = Path(__file__).parents[1] / "report"


def formats_of(subject: "Subject") -> tuple[str, ...]:
    """The formats that offer a subject, read from their sources: the help must import none of them."""
    offers = re.compile(rf"^def {subject}\(", re.MULTILINE)
    modules = sorted(_REPORT_FORMATS.glob("[!_]*.py"))
    return tuple(path.stem for path in modules if offers.search(path.read_text(encoding="utf-8")))


def report_options(subject: "Subject", default: str = "table", *, file: bool = True) -> Callable[[_F], _F]:
    """How the report is written: --format, -o FILE and --no-pager; the verb gets one `output` for them all.

    A format that does not offer the subject is refused before anything is done. Without `file` the report is always
    written to stdout.
    """
    options = [
        click.option(
            "--format",
            "format_",
            default=default,
            show_default=True,
            type=click.Choice(formats_of(subject)),
            help="Output format.",
        ),
        click.option("--no-pager", is_flag=True, help="Never show a long table in PAGER."),
    ]
    if file:
        options.insert(1, output_option)

    def decorate(command: _F) -> _F:
        @wraps(command)
        def verb(*, format_: str, no_pager: bool, file: Path | None = None, **arguments: Any) -> Any:
            return command(output=ReportOutput(subject, format_, file, pager=not no_pager), **arguments)

        for option in reversed(options):
            verb = option(verb)
        return cast("_F", verb)

    return decorate


output_option = click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to FILE, which only its owner can read, instead of stdout.",
)
