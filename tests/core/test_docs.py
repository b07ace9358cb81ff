"""The docs say what the code does: generated parts are up to date, codes and fields are all there."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from sparekey.cli import cli
from sparekey.cutover import NotMovedReason
from sparekey.policy import Exemption, Policy, Rotator, Span, parse_policy
from sparekey.selection import HOLD_REASONS

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="docs")
def fixture_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "tools" / "generate_docs.py")
    assert spec is not None
    assert spec.loader is not None
    docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(docs)
    return docs


def page(name: str) -> str:
    (path,) = (ROOT / "docs").rglob(name)
    return path.read_text(encoding="utf-8")


def test_what_is_generated_is_up_to_date(docs: ModuleType) -> None:
    wanted = docs.wanted()
    assert {
        ROOT / "docs" / "explanation" / "safety.md",
        ROOT / "docs" / "how-to" / "adding-a-rule.md",
    } <= set(wanted)
    stale = [path.name for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `make docs`"


def test_a_part_is_written_between_its_marks(docs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("nothing generated")
    page = tmp_path / "docs" / "x.md"
    page.write_text(
        "a\n<!-- generated: guards -->\nSTALE\n<!-- end -->\nb\n<!-- generated: rules -->\n<!-- end -->\n"
    )
    text = docs.wanted(tmp_path)[page]
    assert "STALE" not in text
    assert text.startswith("a\n<!-- generated: guards -->\n- The key to keep")
    assert "<!-- end -->\nb\n<!-- generated: rules -->\n| rule |" in text


def test_every_hold_is_explained() -> None:
    safety, lifecycle = page("safety.md"), page("lifecycle.md")
    assert [code for code in HOLD_REASONS if f"`{code}`" not in safety] == []
    assert [code for code in get_args(NotMovedReason) if f"`{code}`" not in lifecycle] == []


def test_every_field_of_the_policy_is_explained_with_its_default() -> None:
    text = page("policy.md")
    for kind in (Policy, Exemption, Rotator):
        for name in kind.__struct_fields__:
            assert f"`{name}`" in text or f"[[{name}]]" in text
    for name, default in zip(Policy.__struct_fields__, Policy.__struct_defaults__, strict=True):
        if isinstance(default, Span):
            assert f"| `{name}` | `{default}` |" in text


def test_the_policy_in_the_docs_is_one() -> None:
    example = page("policy.md").split("```toml\n")[1].split("```")[0]
    policy = parse_policy(example)
    assert policy.max_key_age == Policy().max_key_age
    assert policy.exempt[0].account == "111122223333"
    assert policy.rotators[0].tool == "Vault"


def test_a_decision_record_has_a_title_a_status_and_a_date(docs: ModuleType, tmp_path: Path) -> None:
    record = tmp_path / "0001-x.md"
    record.write_text("# 0001 · Do it\n\nStatus: accepted · Date: 2026-11-26\n\n## Context\n")
    assert "| 0001 | [Do it](0001-x.md) | accepted | 2026-11-26 |" in docs.adr_index(tmp_path)
    record.write_text("# 0001 · Do it\n\n## Context\n")
    with pytest.raises(ValueError, match="lacks its title, status or date"):
        docs.adr_index(tmp_path)


def test_every_command_has_a_man_page_that_groff_takes_without_a_warning() -> None:
    pages = sorted((ROOT / "man").glob("*.1"))
    names = {path.stem for path in pages}
    assert {"sparekey", *(f"sparekey-{name}" for name in cli.commands)} <= names
    groff = shutil.which("groff")
    for path in pages if groff else ():
        done = subprocess.run(
            [str(groff), "-man", "-Kutf8", "-Tutf8", "-ww", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), path.name
        assert path.stem.upper() in done.stdout
