"""The whole walk through the console, page after page: what axe looks at, and what the screenshots show."""

from collections.abc import Iterator

from playwright.sync_api import Page

from console.conftest import Console

MAIN = "111122223333"


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
    page.goto(f"{console.origin}/user?account={MAIN}&name=web-frontend")
    page.get_by_role("button", name="Check usage (CloudTrail)").click()
    page.get_by_role("button", name="Check usage (CloudTrail) again").wait_for()
    yield "user"
    page.get_by_role("button", name="Make inactive").click()
    page.get_by_role("heading", name="Deactivate AKIA").wait_for()
    yield "confirm"
    page.get_by_role("button", name="Deactivate").click()
    page.get_by_text("deactivated, verifying").first.wait_for(state="attached")
    yield "run-live"
    page.get_by_text("deactivated, not watched").first.wait_for()
    yield "run"
    page.goto(f"{console.origin}/user?account={MAIN}&name=billing-export")
    page.get_by_role("button", name="Check usage (CloudTrail)").click()
    yield "user-reading"
    page.get_by_role("button", name="Check usage (CloudTrail) again").wait_for()
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
