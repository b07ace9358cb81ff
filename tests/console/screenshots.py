"""Take the screenshots of docs/screenshots again: `make screenshots`."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from console.conftest import CHROMIUM, SWITCHES, Console, console_on, let_in
from sparekey.sandbox import Sandbox

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
WIDE, NARROW = 1280, 360


def walk(page: Page, console: Console) -> Iterator[str]:
    """Each page of the walk in its order; yields its name while it is shown."""
    page.goto(console.origin)
    yield "overview"
    page.goto(f"{console.origin}/users")
    page.get_by_label("Choose ci-deploy").check()
    page.get_by_label("Choose legacy-reports").check()
    page.get_by_text("2 users chosen").wait_for()
    yield "users"
    page.get_by_role("button", name="Review the plan").click()
    page.get_by_role("heading", name="Deactivate 2 keys").wait_for()
    yield "review"
    page.goto(f"{console.origin}/user?account=111122223333&name=web-frontend")
    yield "user"
    page.get_by_role("button", name="Make inactive").click()
    page.get_by_role("heading", name="Deactivate AKIA").wait_for()
    yield "confirm"
    page.get_by_role("button", name="Deactivate").click()
    page.get_by_role("heading", name="Run r-").wait_for()
    page.get_by_text("being read back").first.wait_for(state="attached")
    yield "run-live"
    page.get_by_role("button", name="Reactivate").wait_for()
    yield "run"
    page.goto(f"{console.origin}/user?account=111122223333&name=billing-export")
    yield "user-held"
    page.goto(f"{console.origin}/held")
    yield "held"
    page.goto(f"{console.origin}/runs")
    yield "runs"
    page.goto(f"{console.origin}/exemptions")
    yield "exemptions"


def take(browser: Browser, folder: Path) -> None:
    """Every page of the walk, light and dark; and narrow."""
    with tempfile.TemporaryDirectory() as home, console_on(Sandbox(), Path(home) / "home") as console:
        context = let_in(browser, console)
        page = context.new_page()
        for name in walk(page, console):
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=folder / f"{name}-{scheme}.png", full_page=True)
            if "--narrow" in sys.argv:
                page.emulate_media(color_scheme="light")
                page.set_viewport_size({"width": NARROW, "height": 740})
                page.screenshot(path=folder / f"{name}-narrow.png", full_page=True)
                page.set_viewport_size({"width": WIDE, "height": 800})
        context.close()


def main() -> None:
    """Write them to docs/screenshots, or to the folder named."""
    named = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    folder = Path(named[0]) if named else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        take(browser, folder)
        browser.close()


if __name__ == "__main__":
    main()
