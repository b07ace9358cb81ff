"""WCAG 2.2 AA on every page, light and dark, narrow and wide: axe finds nothing, nothing shifts."""

from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

from console.conftest import Console, console_on, let_in
from sparekey.sandbox import Sandbox
from support.console_walk import walk

pytestmark = pytest.mark.slow

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
RUN = """
async only => (await axe.run(document, {
  runOnly: only || ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  resultTypes: ['violations'],
})).violations.map(found => `${found.id}: ${found.nodes.map(node => node.html).slice(0, 3).join(' | ')}`)
"""
SHIFTS = """
window.shifts = [];
new PerformanceObserver(list => {
  for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.shifts.push(shift.value);
}).observe({type: 'layout-shift', buffered: true});
"""
# Every rule at each width; with the other colours, the rules that look at colours.
COLORS: dict[str, object] = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
LOOKS: tuple[tuple[int, Literal["light", "dark"], dict[str, object] | None], ...] = (
    (1920, "light", None),
    (1920, "dark", COLORS),
    (360, "dark", None),
    (360, "light", COLORS),
)


def faults(page: Page) -> list[str]:
    """What axe finds on the page as it is, in every look, and what sticks out of the narrow one."""
    found: list[str] = []
    page.evaluate(AXE)
    for width, scheme, only in LOOKS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        result: Any = page.evaluate(RUN, only)
        found += [f"{width} {scheme}: {text}" for text in result]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{width}: the page is wider than the window")
    page.set_viewport_size({"width": 1280, "height": 800})
    return found


def test_every_page_is_accessible_and_stands_still(browser: Browser, tmp_path: Path) -> None:
    with console_on(Sandbox(), tmp_path / "home") as console:
        context = let_in(browser, console)
        context.add_init_script(SHIFTS)
        page = context.new_page()
        seen = dict(_look(page, console))
        context.close()
    assert {name: found for name, found in seen.items() if found} == {}
    assert {"overview", "users", "user", "confirm", "run-live", "run", "held", "runs", "exemptions"} <= set(
        seen
    )


def test_axe_finds_what_is_wrong(page: Page, console: Console) -> None:
    """It would say something if there were something to say."""
    page.goto(console.origin)
    page.evaluate("document.querySelector('h1').insertAdjacentHTML('afterend', '<input><button></button>')")
    found = " ".join(faults(page))
    assert "label: <input>" in found
    assert "button-name: <button></button>" in found


def _look(page: Page, console: Console) -> "list[tuple[str, list[str]]]":
    seen = []
    for name in walk(page, console):
        shifted: float = page.evaluate("window.shifts.reduce((sum, value) => sum + value, 0)")
        found = faults(page)
        seen.append((name, [*found, f"the layout shifted by {shifted}"] if shifted else found))
    return seen
