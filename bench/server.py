"""An AWS that answers in constant time, in a process of its own, so that what is measured is the client.

One asyncio process; every answer is made from templates, and signatures are not checked. `--latency` delays
each answer without using the processor, `--limit` keeps one token bucket per account and action. Accounts are
told apart by the access key: AssumeRole hands out ASIA and the account's number.
"""

import argparse
import asyncio
import base64
import functools
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qsl

from botocore import loaders

BASE_ACCOUNT = "000000000001"
_MARK = "@account@"
_XML = "https://iam.amazonaws.com/doc/2010-05-08/"
_NOW = datetime.now(UTC).replace(microsecond=0)


def _time(age: timedelta) -> str:
    return (_NOW - age).isoformat().replace("+00:00", "Z")


class Fleet:
    """The users of every account: alike in all of them; every `spare`-th user has a spare key."""

    def __init__(self, users: int, accounts: int, spare: int) -> None:
        self.names = [f"user{number:05d}" for number in range(users)]
        self.accounts = [f"{number:012d}" for number in range(1, accounts + 1)]
        self.spare = spare
        self.inactive: set[tuple[str, str]] = set()  # (account, key)

    @staticmethod
    def idle(key: str) -> timedelta:
        """How long ago a key was last used: the older one of a pair long ago."""
        return timedelta(days=100 if key[4] == "1" else 2)

    def keys(self, name: str) -> list[tuple[str, timedelta]]:
        """(id, age) of a user's keys, all of them active to begin with."""
        number = int(name[4:])
        ages = [timedelta(days=200), timedelta(days=30)] if number % self.spare == 0 else [timedelta(days=60)]
        # The oldest of a pair ends in 1, a key without a second in 0.
        return [(f"AKIA{len(ages) - 1 - slot}{number:015d}", age) for slot, age in enumerate(ages)]


class Answers:
    """The body for an action, with the account's number still to be put in."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._models = {name: _model(name) for name in ("iam", "sts")}
        self._report = base64.b64encode(self._report_csv().encode()).decode()

    def xml(self, params: dict[str, str], account: str) -> str:
        """An answer of IAM or STS."""
        params["account"] = account
        action = params["Action"]
        known = getattr(self, f"_{action}", None)
        inner = known(params) if known else self._empty(action)
        result = f"<{action}Result>{inner}</{action}Result>"
        return f'<{action}Response xmlns="{_XML}">{result}<ResponseMetadata/></{action}Response>'

    def json(self, target: str, params: dict[str, Any]) -> str:
        """An answer of Organizations or CloudTrail."""
        if target.endswith(".ListAccounts"):
            return self._list_accounts(params)
        if target.endswith(".LookupEvents"):
            return '{"Events":[]}'
        if target.endswith(".DescribeOrganization"):
            return json.dumps({"Organization": {"Id": "o-bench", "MasterAccountId": BASE_ACCOUNT}})
        return "{}"

    def _list_accounts(self, params: dict[str, Any]) -> str:
        start = int(params.get("NextToken", 0))
        page = self._fleet.accounts[start : start + 20]
        received = [
            {
                "Id": one,
                "Name": f"account {one}",
                "Status": "ACTIVE",
                "State": "ACTIVE",
                "Arn": f"arn:aws:{one}",
            }
            for one in page
        ]
        following = {"NextToken": str(start + 20)} if start + 20 < len(self._fleet.accounts) else {}
        return json.dumps({"Accounts": received, **following})

    def _GetCallerIdentity(self, _: dict[str, str]) -> str:  # noqa: N802  # named after the action
        return f"<Arn>arn:aws:iam::{_MARK}:user/bench</Arn><UserId>AIDA</UserId><Account>{_MARK}</Account>"

    def _AssumeRole(self, params: dict[str, str]) -> str:  # noqa: N802
        account, role = params["RoleArn"].split(":")[4], params["RoleArn"].rpartition("/")[2]
        expires = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return (
            f"<Credentials><AccessKeyId>ASIA{account}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>"
            f"<SessionToken>{'t' * 900}</SessionToken><Expiration>{expires}</Expiration></Credentials>"
            f"<AssumedRoleUser><AssumedRoleId>AROA:s</AssumedRoleId>"
            f"<Arn>arn:aws:sts::{account}:assumed-role/{role}/s</Arn></AssumedRoleUser>"
        )

    def _ListUsers(self, params: dict[str, str]) -> str:  # noqa: N802
        start, size = int(params.get("Marker", 0)), int(params.get("MaxItems", 100))
        return self._users(start, size)

    @functools.cache  # noqa: B019  # lives as long as the process
    def _users(self, start: int, size: int) -> str:
        members = "".join(
            f"<member><Path>/</Path><UserName>{name}</UserName><UserId>AIDA{name}</UserId>"
            f"<Arn>arn:aws:iam::{_MARK}:user/{name}</Arn><CreateDate>{_time(timedelta(days=400))}</CreateDate>"
            "</member>"
            for name in self._fleet.names[start : start + size]
        )
        more = start + size < len(self._fleet.names)
        marker = f"<Marker>{start + size}</Marker>" if more else ""
        return f"<Users>{members}</Users><IsTruncated>{'true' if more else 'false'}</IsTruncated>{marker}"

    def _GetUser(self, params: dict[str, str]) -> str:  # noqa: N802
        name = params.get("UserName", "bench")
        return (
            f"<User><Path>/</Path><UserName>{name}</UserName><UserId>AIDA</UserId>"
            f"<Arn>arn:aws:iam::{_MARK}:user/{name}</Arn><CreateDate>{_time(timedelta(days=400))}</CreateDate></User>"
        )

    def _ListAccessKeys(self, params: dict[str, str]) -> str:  # noqa: N802
        name = params.get("UserName", self._fleet.names[1])
        members = "".join(
            f"<member><UserName>{name}</UserName><AccessKeyId>{key}</AccessKeyId>"
            f"<Status>{'Ina' if (params['account'], key) in self._fleet.inactive else 'A'}ctive</Status>"
            f"<CreateDate>{_time(age)}</CreateDate></member>"
            for key, age in self._fleet.keys(name)
        )
        return f"<AccessKeyMetadata>{members}</AccessKeyMetadata><IsTruncated>false</IsTruncated>"

    def _UpdateAccessKey(self, params: dict[str, str]) -> str:  # noqa: N802
        key = (params["account"], params["AccessKeyId"])
        (self._fleet.inactive.add if params["Status"] == "Inactive" else self._fleet.inactive.discard)(key)
        return ""

    def _GetAccessKeyLastUsed(self, params: dict[str, str]) -> str:  # noqa: N802
        return (
            f"<UserName>user{params['AccessKeyId'][-5:]}</UserName><AccessKeyLastUsed>"
            f"<LastUsedDate>{_time(self._fleet.idle(params['AccessKeyId']))}</LastUsedDate>"
            "<ServiceName>s3</ServiceName><Region>us-east-1</Region></AccessKeyLastUsed>"
        )

    def _SimulatePrincipalPolicy(self, params: dict[str, str]) -> str:  # noqa: N802
        asked = [value for name, value in params.items() if name.startswith("ActionNames.member.")]
        members = "".join(
            f"<member><EvalActionName>{action}</EvalActionName><EvalDecision>allowed</EvalDecision></member>"
            for action in asked
        )
        return f"<EvaluationResults>{members}</EvaluationResults><IsTruncated>false</IsTruncated>"

    def _GetAccountSummary(self, _: dict[str, str]) -> str:  # noqa: N802
        entry = "<entry><key>AccountAccessKeysPresent</key><value>0</value></entry>"
        users = f"<entry><key>Users</key><value>{len(self._fleet.names)}</value></entry>"
        return f"<SummaryMap>{entry}{users}</SummaryMap>"

    def _GenerateCredentialReport(self, _: dict[str, str]) -> str:  # noqa: N802
        return "<State>COMPLETE</State>"

    def _GetCredentialReport(self, _: dict[str, str]) -> str:  # noqa: N802
        return (
            f"<Content>{self._report}</Content><ReportFormat>text/csv</ReportFormat>"
            f"<GeneratedTime>{_time(timedelta(minutes=20))}</GeneratedTime>"
        )

    def _report_csv(self) -> str:
        slots = ["active", "last_rotated", "last_used_date", "last_used_region", "last_used_service"]
        head = (
            "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,"
            "password_next_rotation,mfa_active,"
            + ",".join(f"access_key_{slot}_{name}" for slot in (1, 2) for name in slots)
            + ",cert_1_active,cert_1_last_rotated,cert_2_active,cert_2_last_rotated"
        )
        rows = [head]
        for name in self._fleet.names:
            cells = [name, f"arn:aws:iam::{BASE_ACCOUNT}:user/{name}", _time(timedelta(days=400)), "false"]
            cells += ["N/A", "N/A", "N/A", "false"]
            keys = self._fleet.keys(name)
            for slot in (0, 1):
                if slot < len(keys):
                    cells += [
                        "true",
                        _time(keys[slot][1]),
                        _time(self._fleet.idle(keys[slot][0])),
                        "us-east-1",
                        "s3",
                    ]
                else:
                    cells += ["false", "N/A", "N/A", "N/A", "N/A"]
            rows.append(",".join([*cells, "false", "N/A", "false", "N/A"]))
        return "\n".join(rows) + "\n"

    @functools.cache  # noqa: B019
    def _empty(self, action: str) -> str:
        """An answer in which there is nothing, by botocore's model: for what only the peers ask."""
        for model in self._models.values():
            if action in model["operations"]:
                shape = model["operations"][action].get("output", {}).get("shape", "")
                members = model["shapes"].get(shape, {}).get("members", {})
                return "".join(_nothing(name, model["shapes"][of["shape"]]) for name, of in members.items())
        return ""


def _nothing(name: str, shape: dict[str, Any]) -> str:
    if shape["type"] in {"list", "map"}:
        return f"<{name}/>"
    return f"<{name}>false</{name}>" if shape["type"] == "boolean" else ""


def _model(name: str) -> Any:
    return loaders.Loader().load_service_model(name, "service-2")


class Bucket:
    """So many calls a second; `burst` may come at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.tokens, self.at = rate, burst, burst, time.monotonic()

    def grants(self) -> bool:
        """Take a token."""
        now = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class State:
    """What all connections share."""

    def __init__(self, answers: Answers, latency: float, limit: float, burst: float) -> None:
        self.answers, self.latency, self.limit, self.burst = answers, latency, limit, burst
        self.buckets: dict[tuple[str, str], Bucket] = {}
        self.requests = self.refused = 0

    def answer(self, head: str, body: bytes) -> bytes:
        """One whole HTTP answer."""
        if head.startswith("GET /_counts"):
            counts = json.dumps({"requests": self.requests, "refused": self.refused}).encode()
            self.requests = self.refused = 0
            return _http("200 OK", "application/json", counts)
        self.requests += 1
        account = _account(head)
        target = _header(head, "x-amz-target")
        params = dict(parse_qsl(body.decode())) if not target else json.loads(body or b"{}")
        action = target.rpartition(".")[2] or params.get("Action", "")
        if self.limit and not self._grants(account, action):
            self.refused += 1
            return _throttled(bool(target))
        if target:
            received = self.answers.json(target, params)
            return _http("200 OK", "application/x-amz-json-1.1", received.encode())
        return _http("200 OK", "text/xml", self.answers.xml(params, account).replace(_MARK, account).encode())

    def _grants(self, account: str, action: str) -> bool:
        key = (account, action)
        if key not in self.buckets:
            self.buckets[key] = Bucket(self.limit, self.burst)
        return self.buckets[key].grants()


def _account(head: str) -> str:
    at = head.find("Credential=ASIA")
    return head[at + 15 : at + 27] if at >= 0 else BASE_ACCOUNT


def _header(head: str, name: str) -> str:
    at = head.lower().find(f"\r\n{name}:")
    return head[at + len(name) + 3 :].partition("\r\n")[0].strip() if at >= 0 else ""


def _http(status: str, kind: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _throttled(as_json: bool) -> bytes:
    if as_json:
        return _http("400 Bad Request", "application/x-amz-json-1.1", b'{"__type":"ThrottlingException"}')
    error = "<Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error>"
    return _http(
        "400 Bad Request", "text/xml", f'<ErrorResponse xmlns="{_XML}">{error}</ErrorResponse>'.encode()
    )


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].decode("latin-1") + "\r\n"
            length = int(_header(head, "content-length") or 0)
            if _header(head, "expect"):
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            answer = self._state.answer(head, body)
            if self._state.latency:
                asyncio.get_running_loop().call_later(self._state.latency, self._write, answer)
            else:
                self._write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def _serve(options: argparse.Namespace) -> None:
    fleet = Fleet(options.users, options.accounts, options.spare)
    state = State(Answers(fleet), options.latency / 1000, options.limit, options.burst or options.limit)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(state), "127.0.0.1", options.port, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)  # the port, for whoever started this
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--users", type=int, default=5000)
    parser.add_argument("--accounts", type=int, default=1)
    parser.add_argument("--spare", type=int, default=400, help="every so many-th user has a spare key")
    parser.add_argument("--latency", type=float, default=0, help="milliseconds")
    parser.add_argument("--limit", type=float, default=0, help="calls a second per account and action")
    parser.add_argument(
        "--burst", type=float, default=0, help="calls at once (the limit unless said otherwise)"
    )
    try:
        asyncio.run(_serve(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
