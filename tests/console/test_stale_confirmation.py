"""An undo that overtakes a read-back: the run must end by saying what AWS says."""

import threading
from pathlib import Path

import pytest

from sparekey import app
from sparekey.app.connection import OWN_ACCOUNT
from sparekey.aws.gateway import AwsGateway
from sparekey.aws.http_pool import HttpPool
from sparekey.policy import Policy
from sparekey.sandbox import Sandbox
from support.clocks import HurriedClock
from support.recorded_runs import recorded_run, recorded_runs


@pytest.mark.slow
def test_a_key_put_back_while_it_is_read_back_is_told_as_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox() as sandbox:
        for name, value in {**sandbox.env(), "SPAREKEY_HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        wire = HttpPool()
        here = app.Connection(AwsGateway.connect(send=wire.send), Policy(), HurriedClock(), OWN_ACCOUNT)
        plan = app.plan_again(
            here, app.audit_for_page(here).snapshot, is_wanted=lambda _, name: name == "web-frontend"
        )
        written = threading.Event()

        def carry_out() -> None:
            app.apply(here, plan, on_event=lambda entry: written.set() if entry.kind == "written" else None)

        applying = threading.Thread(target=carry_out)
        applying.start()
        assert written.wait(20)
        (record,) = recorded_runs()
        app.undo_run(here, record.id)
        applying.join(30)
        assert not applying.is_alive()
        record = recorded_run(record.id)
        assert (record.state, [step.state for step in record.steps]) == ("undone", ["undone"])
        assert sandbox.key("web-frontend").status == "Active"
        wire.close()
