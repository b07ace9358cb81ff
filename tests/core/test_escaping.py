"""Foreign text never reaches a terminal as something that it acts on, and JSON stays the same document."""

import json
import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from sparekey.formatting import clean, escaped

# What a terminal or a reader acts on: controls beyond ASCII's own, separators, format characters.
_ACTED_ON = frozenset(
    char
    for char in map(chr, range(0x7F, sys.maxunicode + 1))
    if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")
)


def test_every_format_character_is_escaped() -> None:
    everything = "".join(sorted(_ACTED_ON))
    assert not _ACTED_ON & set(escaped(everything))
    assert not _ACTED_ON & set(clean(everything))


def test_letters_signs_and_our_own_colours_stay() -> None:
    text = "\x1b[31mred\x1b[0m, Zoë, \u05d0\u05d1, 北京, 👍\n\t│ …"
    assert escaped(text) == text


@given(st.dictionaries(st.text(), st.text(alphabet=st.sampled_from([*sorted(_ACTED_ON), "a", '"', "\\"]))))
def test_a_json_document_stays_the_same_document(document: dict[str, str]) -> None:
    text = escaped(json.dumps(document, ensure_ascii=False))
    assert not _ACTED_ON & set(text)
    assert json.loads(text) == document
