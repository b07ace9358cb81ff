"""A key is rotated on the pages, and nothing of them is secret."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from console.conftest import Console, console_on, let_in
from sparekey.sandbox import Sandbox
from support.rotation_lab import ACCOUNT, COMPANY, OLD

pytestmark = pytest.mark.slow

POLICY = '[[handover]]\nuser = "etl"\nstore = "secretsmanager:prod/etl"\n'
SECRET = '\n[[account.secret]]\nname = "prod/etl"\nuser = "etl"\n'


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with console_on(Sandbox(COMPANY + SECRET), tmp_path_factory.mktemp("rotation") / "home", POLICY) as made:
        yield made


def test_a_key_is_rotated_on_the_pages_and_the_run_names_who_has_not_moved(
    browser: Browser, console: Console
) -> None:
    context = let_in(browser, console)
    page = context.new_page()
    page.goto(f"{console.origin}/")
    expect(page.get_by_role("heading", level=1)).to_contain_text("No user has spare keys")
    page.goto(f"{console.origin}/user?account={ACCOUNT}&name=operator")
    expect(page.get_by_role("button", name="Rotate key")).to_have_count(0)
    page.goto(f"{console.origin}/user?account={ACCOUNT}&name=etl")
    page.get_by_role("button", name="Rotate key").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Rotate {OLD} of etl?")
    expect(page.locator("main")).to_contain_text("secretsmanager:prod/etl")
    page.get_by_role("button", name="Rotate", exact=True).click()
    step = page.get_by_role("region", name=f"{OLD} of etl")
    expect(step).to_contain_text("new key published, applications moving", timeout=90_000)
    expect(step).to_contain_text("Boto3 etl from 127.0.0.1", timeout=30_000)
    text = page.content()
    assert not any(key.secret in text for key in console.sandbox.state.keys.values())
    page.get_by_role("button", name="Revert the handover").click()
    expect(step).to_contain_text("handover reverted", timeout=30_000)
    context.close()
