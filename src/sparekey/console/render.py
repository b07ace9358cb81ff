"""Values to HTML: everything escaped, foreign text isolated, every name in a template known."""

import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from sparekey import __version__
from sparekey.console.views import UserId
from sparekey.formatting import clean, key_age, last_use, moment, number, plural, span
from sparekey.model import Unreadable
from sparekey.states import RUN_STATES, STEP_STATES

STATUSES = {
    "PASS": ("passes", "done"),
    "FAIL": ("spare keys", "bad"),
    "EXEMPT": ("exempt", "held"),
    "UNREADABLE": ("could not be read", "warn"),
}


def _visible(value: object) -> object:
    """Applied to every expression of a template before it is escaped."""
    return value if isinstance(value, Markup) else clean(str(value))


def visible_text(value: object) -> Markup:
    """Text that AWS or a person made up: escaped, and unable to turn the direction of what is around it."""
    return Markup("<bdi>{}</bdi>").format(clean(str(value)))


def when(at: datetime | None) -> Markup:
    """A time that a machine can read too."""
    if at is None:
        return Markup('<span class="muted">unknown</span>')
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), moment(at))


def ago(at: datetime, now: datetime) -> str:
    """How long ago."""
    return f"{span(now - at)} ago" if now - at >= timedelta(minutes=1) else "just now"


def user_url(account: str, name: str) -> str:
    """The page of one user; not a path, because `..` is a user name that IAM allows."""
    return "/user?" + urlencode({"account": account, "name": name})


def page_address(path: str, query: dict[str, str]) -> str:
    """A path with parameters."""
    return f"{path}?{urlencode(query)}" if query else path


def user_id(user: UserId) -> str:
    """A user as forms send it."""
    return f"{user[0]}/{user[1]}"


# What a release says to somebody at a command line, and what the page offers instead.
_FOR_PAGE = (
    (r"plan again with --usage history, archive=PLACE or athena=TABLE", "check the usage of its keys"),
    (
        r"; its only recorded use is sts, or no service: --usage .*",
        "; its only recorded use is sts: check its usage",
    ),
    (r"replace it: plan --rotate; or ", ""),
    (r", then plan --rotate", ", then rotate the key"),
    (r"; or keep an old key: --keep-old", "; or keep an old key by an override"),
    (r"; or --keep KEY", "; or choose the key to keep by an override"),
    (r"--force KEY --because TEXT", "deactivating it anyway, with a reason"),
    (r"--force (one key|the other key|this key|it)", r"deactivate \1 anyway"),
    (r"--(?:keep|force) names", "the override names"),
)


def for_page(text: str) -> str:
    """A text with advice for the command line, in the words of the page's own buttons."""
    for pattern, replacement in _FOR_PAGE:
        text = re.sub(pattern, replacement, text)
    return text


def capitalized(text: str) -> str:
    """A sentence with a capital first letter; the rest as it is."""
    return text[:1].upper() + text[1:]


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("sparekey.console"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        foreign=visible_text,
        when=when,
        ago=ago,
        number=number,
        span=span,
        user_id=user_id,
        capital=capitalized,
        for_page=for_page,
    )
    made.tests["unreadable"] = lambda value: isinstance(value, Unreadable)
    made.globals.update(
        version=__version__,
        user_url=user_url,
        address=page_address,
        plural=plural,
        key_age=key_age,
        last_use=last_use,
        STEP_STATES=STEP_STATES,
        RUN_STATES=RUN_STATES,
        STATUSES=STATUSES,
    )
    return made


_ENVIRONMENT = _environment()


def html(template: str, **values: Any) -> str:
    """Render a template; a name that it does not get is an error."""
    return _ENVIRONMENT.get_template(template).render(**values)


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page; `outside` is that of a browser which is not signed in, and has no links that lead nowhere."""
    return HTMLResponse(html(template, **{"outside": False, "demo": False, **values}), status)


def refusal(status: int, message: str, hint: str, run: str = "") -> HTMLResponse:
    """The page of a request that was refused or failed: one sentence and a hint."""
    return page(
        "error.html", status, message=message, hint=hint, run=run, nav="", caller="", outside=status == 403
    )
