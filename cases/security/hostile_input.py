"""Patterns that take for ever, a mutelist that multiplies, and an AWS endpoint that means harm.

Run: SK_VENV=… python3 hostile_input.py (a few minutes). Expected: each ends in time with one sentence. Before: an exemption
`^(a+)+$` against a user's name of 61 characters does not end; `plan` with a broken pattern of a probe's users is "a way it
does not know"; answers of 1 TiB end with MemoryError; an endpoint that sends a byte a second, or `100 Continue` for ever,
is waited for.
"""

import http.server
import resource
import threading
import time

from common import *

LIMIT = 30


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))


def go(form: str, env: dict[str, str], *args: object, codes: tuple[int, ...], seconds: float = LIMIT) -> None:
    begin = time.monotonic()
    try:
        done = run(env, *args, timeout=seconds, preexec_fn=limited)
    except subprocess.TimeoutExpired:
        check(form, False, f"no end in {seconds} s")
        return
    said = next((line for line in done.stderr.splitlines() if line.startswith("error")), "")
    check(form, done.returncode in codes and "way it does not know" not in done.stderr, f"rc {done.returncode}, {time.monotonic() - begin:.0f} s {said[:110]}")


with Sandbox(company(user("a" * 60 + "@", 'age="400d"', f'age="30d",{IN_USE}'))) as aws, folder() as d:
    env = env_of(aws, d)
    policy(d, '[[mutelist]]\nfile="m.yml"\nowner="platform"\nuntil=2099-01-01\n')
    n = 50
    entry = "&e {Regions: ['*'], Resources: [" + ",".join(f"x{k}" for k in range(n)) + "]}"
    checks = "&c {Checks: {" + ", ".join(f"'iam_user_two_active_access_key(?#{k})': {'*e' if k else entry}" for k in range(n)) + "}}"
    (d / "state/m.yml").write_text("Mutelist: {Accounts: {" + ", ".join(f"'{k:012d}': {'*c' if k else checks}" for k in range(n)) + "}}\n")
    (d / "state/m.yml").chmod(0o600)
    go("a mutelist of 3 KB with 125,000 entries", env, "audit", codes=(2, 3), seconds=120)
    policy(d, '[[exempt]]\nuser="^(a+)+$"\nmatch="regex"\nowner="platform"\nreason="test"\nexpires=2099-01-01\n')
    go("an exemption ^(a+)+$", env, "audit", codes=(2, 3))
    policy(d, '[[probes]]\nname="p"\nkind="http"\nuser="("\nmatch="regex"\nurl="http://127.0.0.1:9/"\n')
    go("a broken pattern of a probe's users", env, "plan", codes=(2,))

WHO = '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/ops</Arn><UserId>A</UserId><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>'
ENTITIES = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
BODIES = {
    "entities of entities": f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">{ENTITIES}]>' + WHO.replace("user/ops", "&l9;"),
    "an entity of a file": '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + WHO.replace("user/ops", "&e;"),
    "200,000 levels": "<a>" * 200_000 + "</a>" * 200_000,
}
HEADS = {
    "a length below zero": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + WHO.encode(),
    "a header of 1 MiB": b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 20),
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
    "1 TiB": b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n",
    "1 TiB in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a byte a second": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    "100 Continue for ever": b"",
}
MORE = {
    "1 TiB": b"x" * (1 << 20),
    "1 TiB in chunks": b"100000\r\n" + b"x" * (1 << 20) + b"\r\n",
    "a byte a second": b"x",
    "100 Continue for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
}
answer = ""


class Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with contextlib.suppress(OSError):
            if answer in BODIES:
                body = BODIES[answer].encode()
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                return
            self.close_connection = True
            self.wfile.write(HEADS[answer])
            for _ in range(6000 if answer in MORE else 0):
                self.wfile.write(MORE[answer])
                time.sleep(answer == "a byte a second")

    def log_message(self, *_: object) -> None:
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
with folder() as d:
    env = env_of(None, d, AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}", AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE", AWS_SECRET_ACCESS_KEY="x", AWS_REGION="us-east-1", AWS_MAX_ATTEMPTS="1")
    for answer in (*BODIES, *HEADS):
        go(f"endpoint: {answer}", env, "audit", codes=(1,), seconds=90 if answer == "a byte a second" else LIMIT)
closing()
