"""Files that people write: bounded, and refused in one sentence whatever stands in them."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.documents import DocumentError, parse_yaml, read_text


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfa")
    assert read_text(path) == "a"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a".encode("utf-16"), "is encoded as UTF-16"),
        (b"ab\xff", "is not UTF-8 text: byte 3 is 0xff"),
        (b"\n" * (4 * 1024 * 1024 + 1), "is larger than 4 MiB"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=why):
        read_text(path)


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(DocumentError, match="is larger than"):
        read_text(Path("/dev/zero"))


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", r"is not YAML \(line \d\)"),
        ("*a", r"is not YAML \(line 1\): found undefined alias"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("a\x00b", "is not YAML"),
        ("[" * 20_000, "is nested more than 32 levels deep"),
        ("a: " + "{a: " * 40, "is nested more than 32 levels deep"),
        ("- " * 40 + "a", "is nested more than 32 levels deep"),
        (ALIASES, "has more than 200,000 values, aliases followed"),
        ("&a [*a]", r"has an alias \*a of something that contains it"),
        ("[" + "a," * 200_001 + "]", "has more than 200,000 values"),
        ("1" + ":1" * 9000, "has a value of more than 8,192 characters"),
        ("2026-13-45", "has a value that YAML cannot read"),
        ("9" * 5000, "has a value that YAML cannot read"),
        ("!!int ''", "has a value that YAML cannot read"),
        ("!!timestamp x", "has a value that YAML cannot read"),
        ("? [a]\n: b", "is not YAML"),
    ],
)
def test_what_is_no_yaml_or_too_much_of_it_is_refused(text: str, why: str) -> None:
    with pytest.raises(DocumentError, match=why) as refused:
        parse_yaml(text)
    assert "\n" not in refused.value.message


def test_aliases_are_followed_where_they_come_to_little() -> None:
    assert parse_yaml("a: &a [x, &b y]\nc: [*a, *b]") == {"a": ["x", "y"], "c": [["x", "y"], "y"]}


@settings(max_examples=150, deadline=None)
@given(st.text("ab:-[]{}&*!|>?'\"# \n0.1,_@%~<=", max_size=40) | st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(DocumentError):
        parse_yaml(text)
