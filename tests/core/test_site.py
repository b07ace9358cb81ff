"""The docs as a site: it builds strictly, every page is in its navigation, and every link leads somewhere."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose tags name Python functions."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda _loader, suffix, _node: suffix)


def _in_nav(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list):
        for entry in nav:
            yield from _in_nav(entry)
    elif isinstance(nav, dict):
        for entry in nav.values():
            yield from _in_nav(entry)


def test_every_page_is_in_the_navigation() -> None:
    nav = set(_in_nav(yaml.load((ROOT / "mkdocs.yml").read_text(), _Loader)["nav"]))  # a SafeLoader
    pages = {str(path.relative_to(DOCS)) for path in PAGES}
    records = {page for page in pages if re.fullmatch(r"adr/\d{4}-.*", page)}
    assert nav == pages - records
    index = (DOCS / "adr" / "README.md").read_text()
    assert [page for page in records if Path(page).name not in index] == []


def _anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown renderers make them."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    titles = [title.strip() for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "path",
    [
        *PAGES,
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")),
    ],
    ids=lambda path: path.name,
)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        to = (path.parent / file).resolve() if file else path
        assert to.exists(), target
        if anchor and to.suffix == ".md":
            assert anchor in _anchors(to), target


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("mkdocs"),
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "sparekey" in (tmp_path / "index.html").read_text()
    hosts = set(re.findall(r'(?:src|href)="https?://([^/"]+)', (tmp_path / "index.html").read_text()))
    assert hosts <= {"squidfunk.github.io"}, (
        "the site asks other hosts for nothing; the theme names its maker"
    )
