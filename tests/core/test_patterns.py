"""Patterns: what `re` means, in time that is linear in the text, or refused with the construct's name."""

import random
import re
import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.patterns import PatternError, compiled, matches


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("ok$", "ok\n", True),
        ("ok$", "ok\n\n", False),
        (r"ok\Z", "ok\n", False),
        (r"\Aok\Z", "ok", True),
        ("(?m)^ok$", "a\nok\nb", True),
        ("^a{,2}$", "aa", True),
        ("^a{,2}$", "a{,2}", False),
        ("[[:x]", "[", True),
        (r"[\]]", "]", True),
        ("[]a]", "]", True),
        ("[^]a]", "]", False),
        ("[$]", "$", True),
        (r"\$", "$", True),
        (r"\+\++", "++", True),
        ("(?i)vault", "VAULT", True),
        ("(?P<name>a)", "a", True),
        ("", "", True),
        ("é", "é", True),
        ("x", "\ud800x", True),
    ],
)
def test_a_pattern_means_what_it_means_in_python(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("(?=a)", "look-ahead"),
        ("(?!a)", "look-ahead"),
        ("(?<=a)b", "look-behind"),
        ("(?<!a)b", "look-behind"),
        (r"(a)\1", "a backreference"),
        ("(?P<n>a)(?P=n)", "a backreference"),
        ("(a)?(?(1)b)", "a conditional group"),
        ("(?>a)", "an atomic group"),
        ("a++", "a possessive repetition"),
        ("a{2}+", "a possessive repetition"),
        ("a(?#note)", "a comment"),
        ("(?x) a", "the flag x"),
        ("(", "is not a regular expression"),
        ("*", "is not a regular expression"),
        ("a{2000}", "is not a regular expression"),
        (".{999}.{999}", "repeats too much"),
        ("a" * 5000, "is longer than 4,096 characters"),
        ("\ud800", "is not Unicode text"),
    ],
)
def test_what_the_engine_lacks_is_refused_by_name(pattern: str, names: str) -> None:
    with pytest.raises(PatternError, match=names) as refused:
        compiled(pattern)
    assert refused.value.hint
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("pattern", [r"^(a+)+$", "(a|aa)+$", "(a*)*b", "a*a*a*a*b", "(.*)(.*)(.*)c"])
def test_a_pattern_that_takes_for_ever_elsewhere_ends(pattern: str) -> None:
    assert not matches(pattern, "a" * (1 << 20) + "!")


def test_others_go_on_while_a_pattern_is_searched() -> None:
    """Python's own engine would hold the interpreter: no other thread runs, and no signal is handled."""
    text = "".join(random.Random(1).choices("abcdefgh ", k=1 << 16))
    ticks, over = [0], threading.Event()

    def tick() -> None:
        while not over.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    before = ticks[0]
    assert not matches("[a-h][^z]{250}!", text)
    during = ticks[0] - before
    over.set()
    thread.join()
    assert during > 1


_ATOMS = st.sampled_from(
    ["a", "b", "ab", ".", "[ab]", "[^a]", "[]b]", r"\.", r"\d", r"\w", "-", r"[\d-]", "^", "$", r"\b", r"\Z"]
)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    repeated = st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{,2}", "{1,3}", "*?"]))
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        repeated.map(lambda one: f"(?:{one[0]}){one[1]}"),
        inner.map(lambda one: f"({one})"),
    )


@settings(max_examples=100, deadline=timedelta(seconds=5))
@given(st.recursive(_ATOMS, _grown, max_leaves=6), st.text("ab.1-\n", max_size=8))
def test_patterns_agree_with_re(pattern: str, text: str) -> None:
    assert matches(pattern, text) is (re.search(pattern, text) is not None)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(pattern: str, text: str) -> None:
    with suppress(PatternError):
        matches(pattern, text)
