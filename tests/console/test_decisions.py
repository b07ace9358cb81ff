"""What can be decided on the pages: limits, windows, exemptions, sorting, downloads, a run that nobody executes."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from console.conftest import Console
from console.test_walk import status_in_aws, user_page
from sparekey import app
from sparekey.console.state import ConsoleOptions
from support.console_walk import MAIN

pytestmark = pytest.mark.slow


def test_an_exemption_is_added_extended_and_ended_with_its_diff_shown_first(
    page: Page, console: Console
) -> None:
    path = Path(console.state.connection.config or app.policy_file(None))
    before = path.read_text()
    page.goto(user_page(console, "mobile-api"))
    page.get_by_role("link", name="Exempt this user").click()
    page.get_by_label("Owner").fill("mobile@practice.example")
    page.get_by_label("Reason").fill('rotation "in progress"')
    page.get_by_label("Last day (UTC)").fill("2099-12-31")
    page.get_by_role("button", name="Review the change").click()
    expect(page.locator(".diff .added")).to_contain_text(
        [
            "+++",
            "+[[exempt]]",
            '+user = "mobile-api"',
            "+account",
            "+owner",
            "+reason",
            "+expires = 2099-12-31",
        ]
    )
    assert path.read_text() == before
    page.get_by_role("button", name="Write the policy file").click()
    row = page.get_by_role("row", name="mobile-api")
    expect(row).to_contain_text("mobile@practice.example")
    assert [line for line in before.splitlines() if line not in path.read_text().splitlines()] == []
    assert path.stat().st_mode & 0o777 == 0o600
    page.goto(f"{console.origin}/users?show=exempt")
    expect(page.get_by_role("link", name="mobile-api")).to_be_visible()

    page.goto(f"{console.origin}/exemptions")
    page.get_by_label("New last day for mobile-api").fill("2098-01-31")
    page.get_by_role("button", name="Extend the exemption of mobile-api").click()
    expect(page.locator(".diff .removed").last).to_have_text("-expires = 2099-12-31")
    page.get_by_role("button", name="Write the policy file").click()
    expect(page.get_by_role("row", name="mobile-api")).to_contain_text("2098-01-31")

    page.get_by_role("button", name="End now the exemption of mobile-api").click()
    page.get_by_role("button", name="Write the policy file").click()
    expect(page.get_by_role("row", name="mobile-api")).to_contain_text("expired: exempts nobody")
    page.goto(f"{console.origin}/users?show=exempt")
    expect(page.get_by_role("link", name="mobile-api")).to_have_count(0)


def test_a_policy_file_that_changed_meanwhile_is_not_overwritten(page: Page, console: Console) -> None:
    path = app.policy_file(None)
    page.goto(f"{console.origin}/exemptions?account={MAIN}&name=ci-deploy")
    page.get_by_label("Owner").fill("platform@practice.example")
    page.get_by_label("Reason").fill("the build moves")
    page.get_by_label("Last day (UTC)").fill("2099-12-31")
    page.get_by_role("button", name="Review the change").click()
    path.write_text(path.read_text() + "# a colleague was here\n")
    page.get_by_role("button", name="Write the policy file").click()
    expect(page.get_by_role("heading")).to_contain_text(
        "was changed since this was proposed; nothing was written"
    )
    assert "ci-deploy" not in path.read_text()


def test_an_entry_is_never_taken_for_another_that_has_its_place_now(page: Page, console: Console) -> None:
    path = app.policy_file(None)
    before = path.read_text()
    page.goto(f"{console.origin}/exemptions")
    entry = '[[exempt]]\nuser = "first"\nowner = "o"\nreason = "r"\nexpires = 2099-01-01\n\n'
    path.write_text(entry + before)
    page.get_by_role("button", name="End now the exemption of partner-sftp").click()
    expect(page.get_by_role("heading")).to_contain_text(
        "was changed since this page was made; nothing was written"
    )
    page.goto(f"{console.origin}/exemptions")
    expect(page.get_by_role("row", name="first")).to_be_visible()
    path.write_text("exempt = 3\n")
    response = page.goto(f"{console.origin}/exemptions")
    assert response is not None
    assert response.status == 400
    expect(page.get_by_role("heading")).to_contain_text("field `exempt`")
    path.write_text(before)
    page.goto(f"{console.origin}/exemptions")


def test_a_day_that_is_over_exempts_nobody_and_is_refused(page: Page, console: Console) -> None:
    page.goto(f"{console.origin}/exemptions?account={MAIN}&name=ci-deploy")
    page.get_by_label("Owner").fill("platform@practice.example")
    page.get_by_label("Reason").fill("the build moves")
    page.get_by_label("Last day (UTC)").fill("2020-12-31")
    page.get_by_role("button", name="Review the change").click()
    expect(page.get_by_role("heading")).to_have_text("2020-12-31 is over: nobody would be exempt")


def test_a_limit_of_ones_own_binds_and_can_be_raised_on_the_page(page: Page, console: Console) -> None:
    page.goto(user_page(console, "data-import"))
    page.get_by_role("button", name="Make inactive").first.click()
    page.get_by_text("Limits of this run").click()
    page.get_by_label("Most keys in this run").fill("1")
    page.get_by_role("button", name="Check the plan again").click()
    expect(page.get_by_role("alert").first).to_contain_text("2 of 20 active keys; at most 1 are allowed")
    expect(page.get_by_role("button", name="Deactivate 2 keys")).to_have_count(0)
    page.get_by_label("Most keys in this run").fill("2")
    page.get_by_role("button", name="Check the plan again").click()
    expect(page.get_by_role("button", name="Deactivate 2 keys")).to_be_visible()
    page.get_by_label("Most keys in this run").evaluate("field => field.closest('details').open = true")
    page.get_by_label("Most keys in this run").fill("many")
    page.get_by_role("button", name="Check the plan again").click()
    expect(page.get_by_role("alert").first).to_contain_text("'many' is not a number of keys")


def test_change_windows_are_set_when_reviewing(page: Page, console: Console) -> None:
    page.goto(user_page(console, "legacy-reports"))
    page.get_by_role("button", name="Make inactive").click()
    page.get_by_text("Waves, change windows and watch").click()
    page.get_by_label("Change windows").fill("every full moon")
    page.get_by_role("button", name="Deactivate", exact=True).click()
    expect(page.get_by_role("heading")).to_have_text("'every full moon' is not a change window")
    assert status_in_aws(console, "legacy-reports") == "Active"

    page.go_back()
    later = datetime.now(UTC) + timedelta(days=2)
    page.get_by_text("Waves, change windows and watch").click()
    page.get_by_label("Change windows").fill(f"{later:%a} 09:00-10:00")
    page.get_by_role("button", name="Deactivate", exact=True).click()
    expect(page.get_by_text("waiting for a change window").first).to_be_visible()
    assert status_in_aws(console, "legacy-reports") == "Active"
    run = page.url.rpartition("/")[2]
    with app.run_records() as runs:
        assert runs.show(run).state == "waiting"
    page.get_by_role("link", name="report.html").wait_for()


def test_a_run_that_no_process_executes_is_resumed_and_its_files_are_downloaded(
    page: Page, console: Console
) -> None:
    connection = console.state.connection
    plan = app.plan(connection, users=("web-frontend",))
    record = app.apply(connection, plan, made_here=True, detach=True)
    page.goto(f"{console.origin}/runs/{record.id}")
    page.get_by_role("button", name="Resume this run: no process executes it").click()
    expect(page.get_by_text("deactivated, not watched").first).to_be_visible()
    assert status_in_aws(console, "web-frontend") == "Inactive"

    texts = {}
    for name in ("report.html", "run.csv", "run.json", "ledger.jsonl"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name, exact=True).click()
        assert download.value.suggested_filename == f"{record.id}-{name}"
        texts[name] = Path(download.value.path()).read_text()
    assert json.loads(texts["run.json"])["id"] == record.id
    assert "<html" in texts["report.html"]
    kinds = [json.loads(line)["kind"] for line in texts["ledger.jsonl"].splitlines()]
    assert (kinds[0], "confirmed" in kinds) == ("opened", True)

    # Its last use is still known once it is inactive.
    page.goto(user_page(console, "web-frontend"))
    expect(page.get_by_text("last use not read")).to_have_count(0)
    expect(page.get_by_text("used 62 days ago")).to_have_count(1)


def test_users_are_sorted_by_a_column_either_way(page: Page, console: Console) -> None:
    page.goto(f"{console.origin}/users")
    page.get_by_role("link", name="Oldest key").click()
    column = page.get_by_role("columnheader", name="Oldest key")
    expect(column).to_have_attribute("aria-sort", "ascending")
    first = page.locator("tbody th").first.inner_text()
    page.get_by_role("link", name="Oldest key").click()
    expect(column).to_have_attribute("aria-sort", "descending")
    expect(page.locator("tbody th").last).to_have_text(first)


def test_a_key_id_is_copied_by_its_button(
    browser: Browser, console: Console, context: BrowserContext
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=console.origin)
    page = context.new_page()
    page.goto(f"{console.origin}/held")
    key = console.sandbox.key("etl-nightly").id
    page.get_by_role("button", name=f"Copy {key}").click()
    expect(page.get_by_role("button", name=f"Copied {key}")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == key
    page.close()


def test_who_is_not_signed_in_reads_how_to_get_in_and_meets_no_dead_link(
    browser: Browser, console: Console
) -> None:
    stranger = browser.new_context()
    page = stranger.new_page()
    response = page.goto(f"{console.origin}/users")
    assert response is not None
    assert response.status == 403
    expect(page.get_by_role("heading")).to_have_text("Not signed in")
    expect(page.get_by_role("listitem")).to_have_count(3)
    assert page.get_by_role("link").all_inner_texts() == ["Skip to the content"]
    stranger.close()


def test_the_choice_names_its_users_and_what_one_run_may_do(page: Page, console: Console) -> None:
    page.goto(f"{console.origin}/users?show=deactivate")
    page.get_by_role("button", name="Choose all that match").click()
    chosen = page.locator("#chosen")
    expect(chosen).to_contain_text("data-import")
    expect(chosen).to_contain_text("keys to deactivate")
    page.get_by_role("button", name="Choose none").click()
    expect(chosen).to_contain_text("0 users chosen")


def test_the_practice_company_has_a_banner(page: Page, console: Console) -> None:
    banner = page.get_by_text("Practice company: nothing here is real")
    page.goto(f"{console.origin}/held")
    expect(banner).to_have_count(0)
    console.state.console_options = ConsoleOptions(demo=True)
    page.goto(f"{console.origin}/held")
    expect(banner).to_be_visible()
    console.state.console_options = ConsoleOptions()
