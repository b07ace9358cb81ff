"""Take the screenshots of docs/screenshots again, or of the folder named: `make screenshots`."""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from console.conftest import CHROMIUM, SWITCHES, console_on, let_in
from sparekey.sandbox import Sandbox
from support.console_walk import walk

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
WIDE, NARROW = 1280, 360


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
