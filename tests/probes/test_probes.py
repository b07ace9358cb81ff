"""Each kind of probe against the real thing: processes, an HTTP server, alarm states."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from sparekey.errors import SparekeyError
from sparekey.policy import Policy, PolicyError, parse_policy
from sparekey.probes import (
    OUTPUT_LIMIT,
    BaseProbe,
    Prober,
    ProbeResult,
    ProbeTools,
    kinds,
    parse,
    shorten_output,
)

URL = "http://127.0.0.1/"


def probe(**fields: Any) -> BaseProbe:
    return parse(({"name": "p", "user": "*", **fields},))[0]


def command(code: str, **fields: Any) -> ProbeResult:
    found = probe(kind="command", argv=[sys.executable, "-c", code], **fields)
    return found.check(ProbeTools({"PATH": os.environ["PATH"], "WANTED": "yes", "SECRET": "no"}))


def test_every_module_is_a_kind() -> None:
    assert set(kinds()) == {"alarm", "command", "http"}


def test_a_command_is_green_by_its_exit_status_and_its_output_is_kept() -> None:
    assert command("print('fine')") == ProbeResult(healthy=True, output="exit status 0: fine")
    assert command("raise SystemExit(3)") == ProbeResult(healthy=False, output="exit status 3")
    assert command("import os; os.kill(os.getpid(), 9)").output == "killed by signal 9"


def test_a_command_sees_only_the_variables_that_are_named() -> None:
    received = command("import os; print(sorted(set(os.environ) - {'LC_CTYPE'}))", env=["WANTED", "UNSET"])
    assert received.output == "exit status 0: ['WANTED']"


def test_a_command_that_does_not_end_is_red_and_its_children_end_with_it() -> None:
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    received = command(f"import subprocess, sys, time; {child}; time.sleep(60)", timeout=0.5)
    assert received.healthy is False
    assert received.output.startswith("no end after 0.5 s")


@pytest.mark.parametrize(("ends", "green"), [("", True), ("time.sleep(60)", False)])
def test_a_child_that_left_the_group_and_holds_the_pipe_is_not_waited_for(
    ends: str, green: bool, tmp_path: Path
) -> None:
    until = tmp_path / "until"
    loop = f"import os, time\nfor _ in range(900):\n if not os.path.exists({str(until)!r}): time.sleep(0.1)"
    child = f"subprocess.Popen([sys.executable, '-c', {loop!r}], start_new_session=True)"
    received = command(
        f"import subprocess, sys, time; {child}; print('up', flush=True); {ends}", timeout=30 if green else 1
    )
    assert received.healthy is green
    assert received.output.startswith("exit status 0: up" if green else "no end after 1 s")
    until.touch()  # the child has lived all the time


def test_a_command_that_closes_its_output_is_waited_for() -> None:
    received = command("import os, time; os.close(1); os.close(2); time.sleep(0.2); os._exit(3)")
    assert received == ProbeResult(healthy=False, output="exit status 3")
    assert command("import os, time; os.close(1); os.close(2); time.sleep(60)", timeout=0.5).healthy is False


def test_a_commands_endless_output_is_cut() -> None:
    received = command("import sys\nfor _ in range(3000): sys.stdout.write('x' * 1000)")
    assert received.healthy
    assert len(received.output) == OUTPUT_LIMIT
    assert received.output.endswith("x…")


def test_a_command_that_cannot_be_started_says_nothing() -> None:
    found = probe(kind="command", argv=["/nonexistent/check"]).check(ProbeTools())
    assert found.healthy is None
    assert "cannot be started" in found.output


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers = {
            "/ok": (200, "healthy: yes"),
            "/bad": (500, "down"),
            "/moved": (302, "elsewhere"),
            "/cut": (500, "down"),
            "/huge": (200, "x" * (1 << 20) + "end"),
        }
        status, body = answers.get(self.path, (404, ""))
        self.send_response(status)
        if self.path == "/cut":
            self.send_header("Transfer-Encoding", "chunked")  # and then it is not
        if status == 302:
            self.send_header("Location", "/ok")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "fields", "green", "output"),
    [
        ("/ok", {}, True, "HTTP 200"),
        ("/ok", {"body": "healthy: y"}, True, "HTTP 200"),
        ("/ok", {"body": "^down"}, False, "HTTP 200, but the body does not match: healthy: yes"),
        ("/bad", {}, False, "HTTP 500, not 200: down"),
        ("/bad", {"status": 500}, True, "HTTP 500"),
        ("/moved", {"status": 302}, True, "HTTP 302"),
        ("/moved", {}, False, "HTTP 302, not 200"),
        ("/cut", {}, False, "no answer"),
    ],
)
def test_http(site: str, path: str, fields: dict[str, Any], green: bool, output: str) -> None:
    found = probe(kind="http", url=f"{site}{path}", **fields).check(ProbeTools())
    assert found.healthy is green
    assert output in found.output


def test_an_answer_that_comes_drop_by_drop_has_one_deadline_for_all_of_it() -> None:
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        answer, _ = listener.accept()
        with answer, suppress(ConnectionError):
            answer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not over.wait(0.05):
                answer.sendall(b".")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=drip, args=(listener,))
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        found = probe(kind="http", url=url, timeout=0.5).check(ProbeTools())
        over.set()
        server.join()
    assert found == ProbeResult(healthy=False, output="no answer: no end after 0.5 s")


def test_no_answer_is_red() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        found = probe(kind="http", url=url, timeout=1).check(ProbeTools())
    assert found.healthy is False
    assert found.output.startswith("no answer")


def test_a_host_that_is_no_name_is_red_where_a_policy_on_file_has_it() -> None:
    table = {"name": "p", "user": "*", "kind": "http", "url": f"http://{'x' * 64}.example/"}
    found = Prober(ProbeTools()).check(Policy(probes=(table,)), "p")
    assert found.healthy is False
    assert found.output.startswith("no answer")


def test_a_pattern_on_file_that_is_refused_today_tells_nothing_of_the_application(site: str) -> None:
    table = {"name": "p", "user": "*", "kind": "http", "url": f"{site}/ok", "body": "(?=h)"}
    found = Prober(ProbeTools()).check(Policy(probes=(table,)), "p")
    assert found.healthy is None
    assert "look-ahead" in found.output


@pytest.mark.parametrize("pattern", ["(x+x+)+y", "^(x|xx)+y$", "(x*)*y", "x*x*x*y"])
def test_no_body_makes_a_pattern_hold_anybody(site: str, pattern: str) -> None:
    found = probe(kind="http", url=f"{site}/huge", body=pattern, timeout=60).check(ProbeTools())
    assert found.healthy is False
    assert found.output.startswith("HTTP 200, but the body does not match: xxx")
    assert len(shorten_output(found.output)) == OUTPUT_LIMIT


def test_a_body_is_read_no_further_than_its_first_mebibyte(site: str) -> None:
    assert probe(kind="http", url=f"{site}/huge", body="^x+$", timeout=60).check(ProbeTools()).healthy
    assert not probe(kind="http", url=f"{site}/huge", body="end", timeout=60).check(ProbeTools()).healthy


def test_the_output_of_a_probe_is_one_short_line() -> None:
    hostile = "a\r\nSubject: b\x1b[2J\u202ec\u200b" + "d" * 10_000
    received = Prober(ProbeTools(alarm_state=lambda *_: hostile)).check(
        Policy(probes=({"name": "p", "user": "*", "kind": "alarm", "alarm": "a", "region": "r"},)), "p"
    )
    assert received.output.startswith("the alarm is a Subject: b [2J c dddd")
    assert received.output.isprintable()
    assert len(received.output) == OUTPUT_LIMIT
    assert shorten_output("fine\n") == "fine"
    assert shorten_output(" " * 5000 + "x") == "…"


def test_alarm() -> None:
    asked = []

    def state(account: str, region: str, name: str) -> str:
        asked.append((account, region, name))
        return "ALARM"

    found = probe(kind="alarm", alarm="errors", region="eu-central-1", in_account="111122223333")
    assert found.check(ProbeTools(alarm_state=state)) == ProbeResult(
        healthy=False, output="the alarm is ALARM"
    )
    assert asked == [("111122223333", "eu-central-1", "errors")]
    loose = probe(kind="alarm", alarm="errors", region="eu-central-1", green=["OK", "ALARM"])
    assert loose.check(ProbeTools(alarm_state=state)).healthy
    assert loose.check(ProbeTools()).healthy is None


@pytest.mark.parametrize(
    ("fields", "received"),
    [
        ({"kind": "nosuch"}, "field `kind`: there is no such kind: 'nosuch'"),
        ({"kind": 1}, "field `kind`: there is no such kind: 1"),
        ({}, "field `kind`: this field is required"),
        ({"kind": "http"}, "field `url`: this field is required"),
        ({"kind": "http", "url": URL, "unknown": 1}, "field `unknown`: there is no such field"),
        ({"kind": "http", "url": "file:///etc/passwd"}, "field `url`: 'file:///etc/passwd' is not a URL"),
        ({"kind": "http", "url": "http://["}, "field `url`: 'http://[' is not a URL"),
        ({"kind": "http", "url": "http://a:b/"}, "field `url`: 'http://a:b/' is not a URL"),
        ({"kind": "http", "url": "http://a b/"}, "field `url`: 'http://a b/' is not a URL"),
        ({"kind": "http", "url": f"http://{'x' * 64}.example/"}, "field `url`"),
        (
            {"kind": "http", "url": "http://me:hush@127.0.0.1/"},
            "field `url`: it has a user or password in it",
        ),
        ({"kind": "http", "url": URL, "body": "("}, "field `body`: '(' is not a regular expression"),
        ({"kind": "http", "url": URL, "body": "(?<!a)b"}, "field `body`: '(?<!a)b' uses look-behind"),
        ({"kind": "http", "url": URL, "body": "((a{0,99}){0,99}b)"}, "field `body`: "),
        ({"kind": "http", "url": URL, "body": ".{300}"}, "field `body`: '.{300}' repeats too much"),
        ({"kind": "http", "url": URL, "status": 99}, "field `status`: 99 is not a status"),
        ({"kind": "http", "url": URL, "every": "0m"}, "field `every`: it must be longer than zero"),
        ({"kind": "http", "url": URL, "every": 5}, "field `every`: expected a duration"),
        ({"kind": "http", "url": URL, "timeout": float("nan")}, "field `timeout`: it must be more than 0"),
        ({"kind": "http", "url": URL, "timeout": float("inf")}, "field `timeout`: it must be more than 0"),
        ({"kind": "http", "url": URL, "user": "(", "match": "regex"}, "field `user`: '(' is not a regular"),
        (
            {"kind": "http", "url": URL, "user": "a", "account": "[", "match": "regex"},
            "field `account`: '[' is not a",
        ),
        ({"kind": "command", "argv": []}, "field `argv`: it names no command"),
        ({"kind": "command", "argv": ["a\0"]}, "field `argv`: it has a character"),
        ({"kind": "command", "argv": ["a"], "cwd": "\0"}, "field `cwd`: it has a character"),
        ({"kind": "command", "argv": ["a"], "env": ["A=b"]}, "field `env`: it takes names"),
        ({"kind": "alarm", "alarm": "", "region": "eu-west-1"}, "field `alarm`: it is empty"),
        ({"kind": "alarm", "alarm": "a", "region": "r"}, "field `region`: 'r' is not a region"),
        ({"kind": "alarm", "alarm": "a", "region": "eu-west-1", "in_account": "1"}, "field `in_account`"),
        ({"kind": "alarm", "alarm": "a", "region": "r", "green": ["FINE"]}, "FINE is no alarm state"),
        ({"kind": "alarm", "alarm": "a", "region": "r", "green": []}, "nothing is no alarm state"),
    ],
)
def test_a_probe_that_makes_no_sense_is_refused(fields: dict[str, Any], received: str) -> None:
    with pytest.raises(PolicyError, match=r"^\[\[probes\]\] 1 \('p'\): field `") as refused:
        probe(**fields)
    assert received in refused.value.message
    assert "hush" not in refused.value.message


@pytest.mark.parametrize("name", ["", " ", "(listing)", "a\nb", "x" * 101])
def test_a_name_that_could_be_taken_for_something_else_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="field `name`"):
        parse(({"name": name, "user": "*", "kind": "command", "argv": ["true"]},))


def test_probes_of_a_policy() -> None:
    policy = parse_policy("""
        watch = "8d"
        [[probes]]
        name = "web"
        kind = "alarm"
        user = "api*"
        every = "10m"
        alarm = "errors"
        region = "eu-central-1"
        [[probes]]
        name = "batch"
        kind = "alarm"
        user = "*"
        account = "1111*"
        alarm = "jobs"
        region = "eu-central-1"
    """)

    def denied(_account: str, _region: str, _name: str) -> str:
        raise SparekeyError("access denied: cloudwatch:DescribeAlarms")

    probes = Prober(ProbeTools(alarm_state=denied))
    assert probes.probes_for(policy, "111122223333", "api-1") == ("batch", "web")
    assert probes.probes_for(policy, "222233334444", "api-1") == ("web",)
    assert probes.probes_for(policy, "222233334444", "other") == ()
    assert str(probes.interval(policy, "web")) == "10m"
    assert probes.check(policy, "web") == ProbeResult(None, "access denied: cloudwatch:DescribeAlarms")
    assert probes.probes_for(Policy(), "1", "x") == ()
    with pytest.raises(PolicyError, match="two probes are called"):
        parse((*policy.probes, policy.probes[0]))


def test_a_kind_must_ask_something() -> None:
    with pytest.raises(SparekeyError, match="asks nothing"):
        BaseProbe(name="p", user="*").check(ProbeTools())
