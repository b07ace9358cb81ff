"""The walk through the console in a real browser, on the practice company and the real verbs."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from console.conftest import Console, console_on, let_in
from sparekey import app
from sparekey.sandbox import Sandbox
from support.console_walk import MAIN
from support.recorded_runs import recorded_run, recorded_runs

pytestmark = pytest.mark.slow


def status_in_aws(console: Console, user: str, number: int = 1) -> str:
    return console.sandbox.key(user, number=number).status


def user_page(console: Console, name: str) -> str:
    return f"{console.origin}/user?account={MAIN}&name={name}"


@pytest.fixture(autouse=True)
def quiet(context: BrowserContext, console: Console) -> Iterator[None]:
    """No page of a test may break its own Content-Security-Policy or fail in a script."""
    result: list[str] = []

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: result.append(str(error)))
        page.on("console", lambda message: result.append(message.text) if message.type == "error" else None)

    context.on("page", watch)
    yield
    # What a test began is over before the next one looks: the lists follow a run once it has ended.
    until = time.monotonic() + 60
    while console.state.is_busy and time.monotonic() < until:
        time.sleep(0.05)
    context.remove_listener("page", watch)
    assert [text for text in result if "status of 4" not in text and "status of 500" not in text] == []


def press_until(page: Page, key: str, name: str) -> None:
    """Move the focus by keyboard until it stands on the control of that name."""
    for _ in range(40):
        page.keyboard.press(key)
        focused: str = page.evaluate("document.activeElement.textContent.trim()")
        if focused.startswith(name):
            return
    pytest.fail(f"{name} cannot be reached by {key}")


def test_deactivate_and_reactivate_by_keyboard_alone(page: Page, console: Console) -> None:
    """Overview, users, one user, Make inactive, confirmation, Deactivate, read-back, Reactivate."""
    key = console.sandbox.key("web-frontend")
    page.goto(console.origin)
    press_until(page, "Tab", "Skip to the content")
    page.keyboard.press("Enter")
    press_until(page, "Tab", "See the users with spare keys")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Users", exact=True).wait_for()
    page.get_by_label("Name or access key").focus()
    page.keyboard.type("web-fr")
    expect(page.get_by_text("1 user", exact=True)).to_be_visible()
    press_until(page, "Tab", "web-frontend")
    page.keyboard.press("Enter")

    page.get_by_role("heading", name="web-frontend Security credentials").wait_for()
    card = page.get_by_role("region", name=key.id)
    expect(card).to_contain_text("Active")
    expect(card).to_contain_text("deactivate")
    expect(card).to_contain_text("used 62 days ago (ssm, us-east-1)")
    expect(card).to_contain_text("Not used for 45 days;")
    press_until(page, "Tab", "Check usage (CloudTrail)")
    page.keyboard.press("Enter")
    card = page.get_by_role("region", name=key.id)
    expect(card.get_by_role("row", name="aws-sdk-js")).to_contain_text("198.51.100.41")
    expect(card.get_by_role("img", name="168 calls on")).to_be_visible()
    press_until(page, "Tab", "Make inactive")
    page.keyboard.press("Enter")

    page.get_by_role("heading", name=f"Deactivate {key.id} of web-frontend?").wait_for()
    card = page.get_by_role("region", name=key.id)
    expect(card).to_contain_text("used 62 days ago")
    expect(card).to_contain_text("Who still uses it")
    expect(card.get_by_role("row", name="aws-sdk-js")).to_contain_text("ssm")
    assert status_in_aws(console, "web-frontend") == "Active"
    press_until(page, "Tab", "Deactivate")
    page.keyboard.press("Enter")

    page.get_by_role("heading", name="Run r-").wait_for()
    page.evaluate("window.sameDocument = true")
    expect(page.get_by_text("deactivated, verifying").first).to_be_attached()
    expect(page.get_by_text("deactivated, not watched").first).to_be_visible()
    assert page.evaluate("window.sameDocument"), "the read-back came by a reload, not live"
    expect(page.get_by_role("region", name=key.id)).to_contain_text(f"{key.id} Inactive")
    assert status_in_aws(console, "web-frontend") == "Inactive"

    press_until(page, "Tab", "Reactivate")
    page.keyboard.press("Enter")
    expect(page.get_by_text("reactivated").first).to_be_visible()
    assert status_in_aws(console, "web-frontend") == "Active"


def test_several_users_in_one_plan_undo_one_key_then_the_run(page: Page, console: Console) -> None:
    page.goto(f"{console.origin}/users")
    page.get_by_label("Choose ci-deploy").check()
    page.get_by_label("Choose legacy-reports").check()
    expect(page.locator("#chosen")).to_contain_text("2 users chosen")
    page.get_by_label("Name or access key").fill("data-import")
    expect(page.get_by_text("1 user", exact=True)).to_be_visible()
    page.get_by_label("Choose data-import").check()
    expect(page.locator("#chosen")).to_contain_text("3 users chosen")
    page.get_by_label("Choose data-import").uncheck()
    expect(page.locator("#chosen")).to_contain_text("2 users chosen")
    page.get_by_role("button", name="Review the plan").click()

    page.get_by_role("heading", name="Deactivate 2 keys of 2 users?").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="plan.json").click()
    plan = app.read_plan(download.value.path())
    assert [step.user for step in plan.deactivations] == ["ci-deploy", "legacy-reports"]
    page.get_by_text("How to revert manually").click()
    expect(page.locator("pre")).to_contain_text("aws iam update-access-key --user-name ci-deploy")
    page.get_by_role("button", name="Deactivate 2 keys").click()

    expect(page.get_by_text("deactivated, not watched").nth(1)).to_be_visible()
    expect(page.get_by_role("button", name="Reactivate all 2 keys")).to_be_enabled()
    assert status_in_aws(console, "ci-deploy") == "Inactive"
    assert status_in_aws(console, "legacy-reports") == "Inactive"
    ours = console.sandbox.key("legacy-reports").id
    page.get_by_role("button", name=f"Reactivate {ours}").click()
    expect(page.get_by_role("region", name=ours)).to_contain_text("reactivated")
    assert status_in_aws(console, "legacy-reports") == "Active"
    assert status_in_aws(console, "ci-deploy") == "Inactive"

    other = console.sandbox.key("ci-deploy").id
    page.goto(user_page(console, "ci-deploy"))
    expect(page.get_by_role("region", name=other)).to_contain_text("Inactive")
    page.goto(f"{console.origin}/runs")
    page.get_by_role("link", name="r-").first.click()
    page.get_by_role("button", name=f"Reactivate {other}").click()
    expect(page.get_by_role("region", name=other)).to_contain_text("reactivated")
    assert status_in_aws(console, "ci-deploy") == "Active"


def test_the_second_tab_is_told_what_the_first_did(context: BrowserContext, console: Console) -> None:
    first, second = context.new_page(), context.new_page()
    key = console.sandbox.key("legacy-reports").id
    for tab in (first, second):
        tab.goto(user_page(console, "legacy-reports"))
        tab.get_by_role("button", name="Make inactive").click()
        tab.get_by_role("heading", name=f"Deactivate {key}").wait_for()
    first.get_by_role("button", name="Deactivate").click()
    first.get_by_role("heading", name="Run r-").wait_for()
    run = first.url.rpartition("/")[2]

    second.get_by_role("button", name="Deactivate").click()
    heading = second.get_by_role("heading", name=f"{key} of legacy-reports was acted on first")
    heading.wait_for()
    expect(heading).to_contain_text(f"by {recorded_run(run).caller}")
    second.get_by_role("link", name=f"Open run {run}").click()
    undo = second.get_by_role("button", name=f"Reactivate {key}")
    for tab in (first, second):
        expect(tab.get_by_text("deactivated, not watched").first).to_be_visible()

    first.get_by_role("button", name=f"Reactivate {key}").click()
    expect(first.get_by_text("reactivated").first).to_be_visible()
    undo.click()
    second.get_by_role("heading", name="was acted on first").wait_for()
    expect(second.get_by_role("heading")).to_contain_text("says reactivated")
    first.close()
    second.close()


def test_the_whole_walk_without_javascript(
    browser: Browser, context: BrowserContext, console: Console
) -> None:
    state: Any = context.storage_state()
    plain = browser.new_context(java_script_enabled=False, storage_state=state)
    page = plain.new_page()
    page.goto(f"{console.origin}/users?show=deactivate")
    page.get_by_role("button", name="Choose none").click()
    page.goto(f"{console.origin}/users?show=deactivate")
    page.get_by_label("Name or access key").fill("data-im")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_text("1 user", exact=True)).to_be_visible()
    page.get_by_label("Choose data-import").check()
    page.get_by_role("button", name="Keep this choice").click()
    expect(page.locator("#chosen")).to_contain_text("1 user chosen")
    page.get_by_role("button", name="Choose none").click()
    expect(page.locator("#chosen")).to_contain_text("0 users chosen")
    page.get_by_role("link", name="data-import").click()
    page.get_by_role("button", name="Make inactive").first.click()
    page.get_by_role("button", name="Deactivate 2 keys").click()
    page.get_by_role("heading", name="Run r-").wait_for()
    expect(page.get_by_text("deactivated, not watched").nth(1)).to_be_visible()
    assert [status_in_aws(console, "data-import", number) for number in (1, 2, 3)] == [
        "Inactive",
        "Inactive",
        "Active",
    ]
    page.get_by_role("button", name="Reactivate all 2 keys").click()
    expect(page.get_by_text("reactivated").nth(1)).to_be_visible()
    plain.close()


def test_a_held_key_says_what_would_release_it_and_can_be_forced_with_a_reason(
    page: Page, console: Console
) -> None:
    key = console.sandbox.key("billing-export").id
    page.goto(f"{console.origin}/held")
    row = page.get_by_role("row", name=key)
    expect(row).to_contain_text("no-usage")
    expect(row).to_contain_text("Check the usage of its keys.")
    expect(row.get_by_role("button", name="Check usage")).to_be_visible()
    page.get_by_role("link", name="no-young-key").click()
    expect(page.get_by_role("row", name=key)).to_have_count(0)
    page.get_by_role("link", name="etl-nightly", exact=True).first.click()
    expect(page.get_by_text("Every key is held")).to_be_visible()

    page.goto(user_page(console, "billing-export"))
    page.get_by_text("Deactivate anyway").click()
    page.get_by_label("Why can this key be deactivated").fill("finance said so on Monday")
    page.get_by_role("button", name="Plan to make it inactive anyway").click()
    page.get_by_role("heading", name=f"Deactivate {key} of billing-export?").wait_for()
    expect(page.get_by_text("Forced: finance said so on Monday.")).to_be_visible()
    assert status_in_aws(console, "billing-export") == "Active"


def test_a_key_that_stays_can_be_named(page: Page, console: Console) -> None:
    page.goto(user_page(console, "etl-nightly"))
    page.get_by_text("Override for this user").click()
    page.get_by_label("Key to keep").select_option(index=1)
    page.get_by_label("Allow a key of 90 days or more to be kept").check()
    page.get_by_role("button", name="Plan again").click()
    page.get_by_role("heading", name="No key would be deactivated").wait_for()
    expect(page.get_by_text("1 key is held and left unchanged")).to_be_visible()
    expect(page.get_by_role("button", name="Deactivate")).to_have_count(0)


def test_exemptions_show_owner_expiry_and_whom_they_cover(page: Page, console: Console) -> None:
    page.goto(f"{console.origin}/exemptions")
    row = page.get_by_role("row", name="partner-sftp")
    expect(row).to_contain_text("integrations@practice.example")
    expect(row).to_contain_text("2099-01-31")
    expired = page.get_by_role("row", name="billing-*")
    expect(expired).to_contain_text("expired: exempts nobody")
    row.get_by_role("link", name="partner-sftp").click()
    expect(
        page.get_by_text("Policy lets this user have spare keys until the end of 2099-01-31")
    ).to_be_visible()


def test_filters_narrow_the_list(page: Page, console: Console) -> None:
    page.goto(f"{console.origin}/users")
    expect(page.get_by_text("8 users", exact=True)).to_be_visible()
    page.get_by_label("Oldest active key").select_option("365")
    expect(page.get_by_text("4 users", exact=True)).to_be_visible()
    page.get_by_label("Reason").select_option("no-usage")
    expect(page.get_by_text("1 user", exact=True)).to_be_visible()
    assert "reason=no-usage" in page.url
    assert "age=365" in page.url
    page.reload()
    expect(page.get_by_label("Reason")).to_have_value("no-usage")
    page.get_by_label("Account").select_option(MAIN)
    expect(page.get_by_text("1 user", exact=True)).to_be_visible()
    page.get_by_label("Name or access key").fill("nobody-like-this")
    expect(page.get_by_text("No user matches.")).to_be_visible()


def test_reading_again_shows_what_changed_in_aws(page: Page, console: Console) -> None:
    page.goto(console.origin)
    with page.expect_navigation():
        page.get_by_role("button", name="Read again").click()
    expect(page.get_by_role("heading", name="8 users have spare keys")).to_be_visible()


def test_reactivate_does_not_wait_for_the_read_back(page: Page, console: Console) -> None:
    key = console.sandbox.key("ci-deploy").id
    page.goto(user_page(console, "ci-deploy"))
    page.get_by_role("button", name="Make inactive").click()
    page.get_by_role("button", name="Deactivate").click()
    page.get_by_role("heading", name="Run r-").wait_for()
    page.get_by_text("deactivated, verifying").first.wait_for(state="attached")
    page.get_by_role("button", name=f"Reactivate {key}").click()
    expect(page.get_by_role("region", name=key)).to_contain_text("reactivated")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    assert status_in_aws(console, "ci-deploy") == "Active"


def test_a_run_in_waves_is_stopped_and_goes_on(page: Page, console: Console) -> None:
    page.goto(f"{console.origin}/users?show=deactivate")
    page.get_by_role("button", name="Choose none").click()
    page.get_by_label("Choose ci-deploy").check()
    page.get_by_label("Choose web-frontend").check()
    expect(page.locator("#chosen")).to_contain_text("2 users chosen")
    page.get_by_role("button", name="Review the plan").click()
    page.get_by_text("Waves, change windows and watch").click()
    page.get_by_label("Users per wave").fill("1,rest")
    page.get_by_role("button", name="Deactivate 2 keys").click()
    page.get_by_role("heading", name="Run r-").wait_for()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("stopped", exact=True)).to_be_visible()
    assert status_in_aws(console, "web-frontend") == "Active"
    page.get_by_role("button", name="Resume this run").click()
    expect(page.get_by_text("stopped", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Reactivate all").click()
    expect(page.get_by_text("reactivated").first).to_be_visible()


def test_an_unknown_failure_is_a_page_without_details(
    page: Page, console: Console, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("the secret inside")

    monkeypatch.setattr(console.state, "runs", broken)
    answer = page.goto(f"{console.origin}/runs")
    assert answer
    assert answer.status == 500
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    expect(page.get_by_role("heading", name="Unexpected error")).to_be_visible()
    assert "the secret inside" not in page.content()
    received = capfd.readouterr().err
    assert "unexpected error: ZeroDivisionError" in received
    assert "Traceback" not in page.content() + received
    assert "the secret inside" not in received


def test_other_accounts_are_read_and_those_that_are_not_are_named(browser: Browser, tmp_path: Path) -> None:
    where = app.account_choice(org=True, role="SparekeyAudit", external_id="practice")
    with console_on(Sandbox(), tmp_path / "home", where=where) as console:
        context = let_in(browser, console)
        page = context.new_page()
        page.goto(console.origin)
        expect(page.get_by_role("row", name="practice-production")).to_contain_text("has an access key")
        expect(page.get_by_role("row", name="Former shop")).to_contain_text(
            "AWS reports that it is suspended"
        )
        page.goto(f"{console.origin}/users")
        page.get_by_label("Account").select_option("222233334444")
        # The list is narrowed by the server: what is chosen before its answer would be chosen in the old list.
        expect(page.get_by_label(f"Choose web-frontend in {MAIN}")).to_have_count(0)
        page.get_by_label("Choose web-frontend in 222233334444").check()
        expect(page.locator("#chosen")).to_contain_text("1 user chosen")
        page.get_by_role("button", name="Review the plan").click()
        page.get_by_role("heading", name="of web-frontend?").wait_for()
        expect(page.get_by_text("222233334444", exact=True)).to_be_visible()
        expect(page.get_by_text(MAIN, exact=True)).to_have_count(0)
        context.close()


DENIED = """\
[caller]
account = "111122223333"
user = "ops"
[[account]]
id = "111122223333"
name = "Closed"
[[account.user]]
name = "ops"
key = [{ age = "20d" }]
[[fault]]
kind = "deny"
action = "iam:ListUsers"
"""


def test_what_cannot_be_read_is_said(browser: Browser, tmp_path: Path) -> None:
    with console_on(Sandbox(DENIED), tmp_path / "home") as console:
        context = let_in(browser, console)
        page = context.new_page()
        page.goto(console.origin)
        expect(page.get_by_role("heading", name="1 account or user could not be read")).to_be_visible()
        expect(page.get_by_role("row", name=MAIN)).to_contain_text("iam:ListUsers")
        page.goto(user_page(console, "nobody"))
        expect(page.get_by_role("heading", name="No IAM user 'nobody' was read")).to_be_visible()
        context.close()


def test_the_end_of_the_console_finishes_the_key_in_hand(browser: Browser, tmp_path: Path) -> None:
    with console_on(Sandbox(), tmp_path / "home") as console:
        context = let_in(browser, console)
        page = context.new_page()
        page.goto(user_page(console, "web-frontend"))
        page.get_by_role("button", name="Make inactive").click()
        page.get_by_role("button", name="Deactivate").click()
        page.get_by_role("heading", name="Run r-").wait_for()
        console.server.should_exit = True
        console.state.close()
        (record,) = recorded_runs()
        assert {step.state for step in record.steps} <= {"planned", "unwatched", "confirmed", "settled"}
        assert status_in_aws(console, "web-frontend") in ("Active", "Inactive")
        context.close()
