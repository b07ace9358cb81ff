"""The whole walk through the console, page after page: what axe looks at, and what the screenshots show."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page

from console.conftest import Console
from sparekey.model import AccessKey, Consumer, ServiceUse, Usage

MAIN = "111122223333"


def usage_of(key: AccessKey, agent: str, source: str, service: str, first: int, last: int) -> Usage:
    """What a usage source would tell of a key that one application used from `first` to `last` days ago."""
    assert key.id
    now = datetime.now(UTC)
    days = tuple(
        ((now - timedelta(days=ago)).date(), 40 + 13 * (ago % 5)) for ago in range(first, last - 1, -1)
    )
    seen = (now - timedelta(days=first), now - timedelta(days=last))
    use = ServiceUse(
        service=service,
        region="us-east-1",
        actions=("GetObject",),
        calls=sum(calls for _, calls in days),
        errors=0,
        first_seen=seen[0],
        last_seen=seen[1],
        longest_gap=timedelta(hours=7),
        own_last=seen[1],
        daily=days,
    )
    consumer = Consumer(agent, source, (use,))
    return Usage(key.id, "history", seen[0], now, use.calls, 0, 0, (consumer,), *seen)


def show_usages(console: Console) -> None:
    """As if the usages of web-frontend's keys had been read."""
    view = console.desk.seen()
    old, new = sorted(view.user((MAIN, "web-frontend")).keys, key=lambda key: str(key.created))  # type: ignore[arg-type]  # read
    for usage in (
        usage_of(old, "aws-sdk-js/2", "198.51.100.41", "ssm", 300, 62),
        usage_of(new, "aws-sdk-js/3", "198.51.100.42", "ssm", 63, 0),
    ):
        console.desk.usages[usage.key] = usage


def walk(page: Page, console: Console) -> Iterator[str]:
    """Each page in its order; yields its name while it is shown."""
    page.goto(console.origin)
    page.get_by_role("heading", name="8 users have spare keys").wait_for()
    yield "overview"
    page.goto(f"{console.origin}/users")
    page.get_by_label("Choose ci-deploy").check()
    page.get_by_label("Choose legacy-reports").check()
    page.get_by_text("2 users chosen").wait_for()
    yield "users"
    page.get_by_role("button", name="Review the plan").click()
    page.get_by_role("heading", name="Deactivate 2 keys of 2 users?").wait_for()
    yield "review"
    show_usages(console)
    page.goto(f"{console.origin}/user?account={MAIN}&name=web-frontend")
    yield "user"
    page.get_by_role("button", name="Make inactive").click()
    page.get_by_role("heading", name="Deactivate AKIA").wait_for()
    yield "confirm"
    page.get_by_role("button", name="Deactivate").click()
    page.get_by_role("heading", name="Run r-").wait_for()
    yield "run-live"
    page.get_by_text("Inactive, read back").first.wait_for()
    yield "run"
    page.goto(f"{console.origin}/user?account={MAIN}&name=billing-export")
    for summary in page.locator("summary").all():
        summary.click()
    yield "user-held"
    page.goto(f"{console.origin}/held")
    yield "held"
    page.goto(f"{console.origin}/runs")
    yield "runs"
    page.goto(f"{console.origin}/exemptions")
    yield "exemptions"
    page.goto(f"{console.origin}/runs/none")
    yield "error"
