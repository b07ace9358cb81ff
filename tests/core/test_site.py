"""The docs as a site: it builds strictly, every page is in its navigation, and every link leads somewhere."""

import os
import re
import shutil
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
    nav = set(_in_nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
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
        *sorted(ROOT.glob("*.md")),
        *(ROOT / name / "README.md" for name in ("cases", "changes")),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
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


def _named_in_code() -> Iterator[tuple[Path, str]]:
    """Each page of the docs that a source file names, or a file of the build, with the file that names it."""
    files = [ROOT / "Makefile", ROOT / "action.yml", ROOT / "pyproject.toml"]
    for folder in ("src", "tools", "bench", "cases", "tests", ".github"):
        files += [
            path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".html", ".toml", ".yml"}
        ]
    for path in files:
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r"(?<![\w./-])docs/[\w./-]+\.(?:md|json|png)(?:#[\w-]+)?", text):
            yield path, target


def test_every_page_that_the_code_names_exists() -> None:
    named = list(_named_in_code())
    assert len(named) > 10
    for path, target in named:
        file, _, anchor = target.partition("#")
        assert (ROOT / file).exists(), f"{path.relative_to(ROOT)}: {target}"
        if anchor:
            assert anchor in _anchors(ROOT / file), f"{path.relative_to(ROOT)}: {target}"


def _build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A strict build into the folder. Never with --quiet: it drops the warnings before strict mode counts them."""
    return subprocess.run(
        [
            Path(sys.executable).with_name("mkdocs"),
            "build",
            "--strict",
            "--site-dir",
            str(folder),
            *options,
        ],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_site_builds_strictly_and_asks_no_other_host(tmp_path: Path) -> None:
    done = _build(tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "sparekey" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "reference" / "schemas" / "plan-1.json").exists()
    built = list(tmp_path.rglob("*.html"))
    assert len(built) >= len(PAGES)
    for page in built:
        text = page.read_text()
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="(?:https?:)?//[^"]+', text)
        loaded += re.findall(
            r'<link[^>]*rel="(?:stylesheet|preconnect|preload|icon)"[^>]*href="(?:https?:)?//[^"]+', text
        )
        assert loaded == [], page
        assert 'class="mermaid"' not in text, "the theme loads the renderer of diagrams from another host"


def test_a_link_to_a_missing_page_fails_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(DOCS, docs)
    with (docs / "index.md").open("a") as page:
        page.write("\n[nowhere](nowhere.md)\n")
    config = tmp_path / "mkdocs.yml"
    shutil.copy(ROOT / "mkdocs.yml", config)
    done = _build(tmp_path / "site", "--config-file", str(config))
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr


def test_the_make_target_builds_strictly() -> None:
    (build,) = re.findall(r"mkdocs build .*", (ROOT / "Makefile").read_text())
    assert "--strict" in build
    assert "quiet" not in build
