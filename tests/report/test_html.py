"""The HTML report: read by a parser, it holds what it must and nothing that runs or loads."""

from html.parser import HTMLParser
from typing import Any, get_args

import msgspec
import pytest

from sparekey.model import RunState, StepState
from sparekey.report import RenderOptions, _run_summary, render
from sparekey.states import RUN_STATES, step_label
from support import sample_company as company

VOID = {"meta", "col", "rect", "line", "br"}


class Page(HTMLParser):
    """Checks that elements nest, and collects tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def page(subject: Any, value: Any, look: RenderOptions = RenderOptions()) -> Page:  # noqa: B008  # frozen
    return Page("".join(render(subject, value, "html", look)))


PAGES = [("audit", company.audit()), ("run", company.run())]


@pytest.mark.parametrize(("subject", "value"), PAGES)
def test_nothing_runs_and_nothing_is_loaded(subject: str, value: Any) -> None:
    received = page(subject, value)
    assert not {"script", "iframe", "object", "embed", "img", "link", "base", "form", "a"} & set(
        received.tags
    )
    names = {name for name, _ in received.attributes}
    assert not {name for name in names if name.startswith("on")}
    assert not {"src", "href", "action", "srcdoc"} & names
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in received.attributes
    assert "url(" not in "".join(render(subject, value, "html"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("subject", "value"), PAGES)
def test_names_are_text(subject: str, value: Any) -> None:
    text = "".join(render(subject, value, "html", RenderOptions(show_all=True)))  # type: ignore[arg-type]
    assert company.SCRIPT not in text
    assert f"<bdi>{'&lt;script&gt;alert(1)&lt;/script&gt;'}</bdi>" in text
    assert company.SCRIPT in Page(text).text
    assert [char for char in text if not char.isprintable() and char != "\n"] == []


def test_foreign_names_cannot_turn_the_text_around_them() -> None:
    text = "".join(render("audit", company.audit(), "html"))
    assert f"<bdi>{company.HEBREW}</bdi>" in text
    assert "<bdi>invoice\\u202egnp.exe</bdi>" in text


def test_an_audit_leads_with_its_verdict() -> None:
    text = " ".join(page("audit", company.audit()).text.split())
    verdict = (
        "INCOMPLETE 10 of 42 users read have spare access keys 1 of them are exempt by policy, 9 are not."
    )
    assert verdict in text
    assert "1 account and 1 user could not be read;" in text
    assert (
        text.index("Coverage")
        < text.index("How old the active keys are")
        < text.index("Users with spare keys (9)")
    )
    assert "CIS AWS Foundations Benchmark 4.0: 1.13" in text
    assert "exempt until 2026-06-30 (platform: Vault rotates with two)" in text
    assert "svc-02" not in text


def test_who_passes_is_shown_on_request() -> None:
    text = page("audit", company.audit(), RenderOptions(show_all=True)).text
    assert "Users who pass" in text
    assert "svc-02" in text


def test_a_clean_account_passes_and_an_old_key_alone_fails() -> None:
    fine = company.account(company.PROD, company.user(company.PROD, "one", company.key(1, 3, 1)))
    assert "PASS None of 1 user read has a spare access key" in " ".join(
        page("audit", company.audit(fine)).text.split()
    )
    old = company.account(company.PROD, company.user(company.PROD, "one", company.key(1, 90, 1)))
    text = " ".join(page("audit", company.audit(old)).text.split())
    assert "FAIL None of 1 user read has a spare access key" in text
    assert "1 finding of other rules fails." in text
    assert "Other findings (1)" in text
    nobody = company.account(company.PROD)
    assert "No active key was read." in page("audit", company.audit(nobody)).text


def test_ages_are_counted_once_and_told_in_words() -> None:
    ages = (0, 29.9, 30, 89.9, 90, 364, 365, 729, 730, 4000)
    users = [company.user(company.PROD, f"u{age}", company.key(n, age, 1)) for n, age in enumerate(ages)]
    received = page("audit", company.audit(company.account(company.PROD, *users)))
    counts = (
        "under 30 d: 2; 30 to 59 d: 1; 60 to 89 d: 1; "
        "90 to 179 d: 1; 180 to 364 d: 1; 1 to 2 years: 2; 2 years +: 2."
    )
    assert received.text.count(counts) == 2
    assert "6 of 10 active keys are 90 days old or older." in received.text
    assert ("role", "img") in received.attributes
    assert ("aria-labelledby", "ages-title ages-text") in received.attributes


def test_a_run_shows_what_was_done_and_what_proves_it() -> None:
    run = company.run()
    text = " ".join(page("run", run).text.split())
    for fact in (
        "1d2e-bb",
        "1d2e-cc",
        "Active → Inactive",
        run.head,
        run.plan_digest,
        run.caller,
        "To release: move it",
    ):
        assert fact in text
    assert text.index("Needs a person (1)") < text.index("Deactivated (2)") < text.index("Held (1)")


@pytest.mark.parametrize(
    "state", ["applying", "stopped", "watching", "settled", "unwatched", "rolled_back", "undone", "failed"]
)
def test_every_state_of_a_run_can_be_shown(state: RunState) -> None:
    run = company.run(state)
    states = get_args(StepState)
    steps = tuple(msgspec.structs.replace(run.steps[0], state=name) for name in states)
    received = page("run", msgspec.structs.replace(run, steps=steps))
    assert RUN_STATES[state].label.upper() in received.text
    for name in states:
        assert step_label(name) in received.text
    assert sum(
        len(part.steps) for part in _run_summary.sections(msgspec.structs.replace(run, steps=steps))
    ) == len(states)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_text_has_the_contrast_that_wcag_asks() -> None:
    text = "".join(render("audit", company.audit(), "html"))
    themes = text.split(":root {")[1:4]
    for theme in (
        dict(entry.split(":") for entry in part.split("}")[0].split(";") if "--" in entry) for part in themes
    ):
        colours = {name.strip().removeprefix("--"): value.strip() for name, value in theme.items()}
        for ground in ("page", "card", "head"):
            assert contrast(colours["ink"], colours[ground]) >= 4.5
            assert contrast(colours["soft"], colours[ground]) >= 4.5
        for tone in ("good", "bad", "warn", "odd", "plain"):
            assert contrast(colours[tone], colours[f"{tone}-bg"]) >= 4.5
        for bar in ("bar", "old"):
            assert contrast(colours[bar], colours["card"]) >= 3
