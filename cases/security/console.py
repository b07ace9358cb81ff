"""The console from outside: hosts, tokens, origins, methods, paths, bodies, and connections that say nothing.

Run: SK_VENV=… python3 console.py. Expected: nobody without the cookie or with a foreign Host or Origin gets anything, and
nobody keeps the owner out. Before: 300 idle connections of somebody without the cookie make every page answer 503, undo too,
for as long as they stay; a form that is cut off ends on stderr as "failed in a way it does not know: ClientDisconnect".
"""

import re
import signal
import socket
import time

from common import *


def raw(data: bytes, timeout: float = 10) -> bytes:
    """Send bytes, read one answer; empty where none comes."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=timeout) as connection:
        connection.sendall(data)
        out = b""
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                out += part
                head, _, body = out.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                if length and len(body) >= int(length[1]):
                    break
        return out


def ask(path: str, host: str | None = "", extra: str = "", method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
    """The status and the whole answer; `host` is the console's own, another one, or None for no such header."""
    line = "" if host is None else f"Host: {host or OWN}\r\n"
    out = raw(f"{method} {path} HTTP/1.1\r\n{line}{extra}Connection: close\r\n\r\n".encode("latin-1") + body)
    return int(out[9:12] or 0), out


def post(path: str, extra: str, body: bytes = b"") -> int:
    form = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
    return ask(path, extra=extra + form, method="POST", body=body)[0]


with Sandbox() as aws, folder() as d:
    console = subprocess.Popen([BIN, "console", "--no-browser"], env=env_of(aws, d), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=(d / "stderr").open("w"), text=True)
    try:
        address = console.stdout.readline().strip()
        PORT, token = int(re.search(r":(\d+)/", address)[1]), address.split("token=")[1]
        OWN = f"127.0.0.1:{PORT}"

        foreign = (None, f"localhost.:{PORT}", "127.0.0.1", f"127.1:{PORT}", f"0.0.0.0:{PORT}", f"evil.example:{PORT}", f"{OWN}, evil.example", f"{OWN}@evil.example")
        got = {host: ask("/", host)[0] for host in foreign}
        check("foreign hosts", all(400 <= status < 500 for status in got.values()), set(got.values()))
        got = [ask(f"/open?token={t}")[0] for t in ("", token[:-1], token + "x", token.swapcase(), "%00", "%ff%fe")]
        check("wrong tokens", all(400 <= status < 500 for status in got), set(got))
        status, page = ask(f"/open?token={token}")
        cookie, flags = re.search(rb"set-cookie: ([^;]+)(.*)\r\n", page).groups()
        check("the token opens, once", status in (200, 303) and ask(f"/open?token={token}")[0] == 403, status)
        check("the cookie is HttpOnly and SameSite=strict", b"httponly" in flags.lower() and b"samesite=strict" in flags.lower())
        needed = (b"content-security-policy", b"referrer-policy", b"x-content-type-options", b"cache-control")
        check("headers of a page", all(name in page.lower() for name in needed))

        C, O = f"Cookie: {cookie.decode()}\r\n", f"Origin: http://{OWN}\r\n"
        origins = ("", "Origin: null\r\n", "Origin: http://127.0.0.1:1\r\n", f"Origin: https://{OWN}\r\n", f"Origin: http://localhost:{PORT}\r\n", f"Origin: http://{OWN}.evil.example\r\n")
        got = [post("/read", C + o) for o in origins] + [post("/read", C + O + f"Sec-Fetch-Site: {site}\r\n") for site in ("cross-site", "same-site", "none")]
        check("foreign origins", set(got) == {403}, set(got))
        check("own origin", post("/read", C + O) == 303)
        check("own origin, no cookie", post("/read", O) == 403)
        got = {method: ask("/read", extra=C + O, method=method)[0] for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X")}
        check("other methods", set(got.values()) <= {400, 405}, got)
        paths = ("/static/../users", "/static/..%2fusers", "/static/%2e%2e/gate.py", "/static/..%2f..%2f..%2f..%2f..%2fetc/passwd", "/static//etc/passwd", "/static/%00", "//evil.example/", "/runs/..%2f..%2fetc", "/runs/%3Cscript%3E")
        got = [ask(path, extra=c)[0] for path in paths for c in ("", C)]
        check("paths that climb", all(400 <= status < 500 for status in got), set(got))

        check("a form of 3 MiB", 400 <= post("/chosen", C + O, b"user=" + b"a" * (3 << 20)) < 500)
        check("a form of 60,000 fields", 400 <= post("/chosen", C + O, b"&".join(b"a%d=b" % n for n in range(60_000))) < 500)
        both = f"POST /read HTTP/1.1\r\nHost: {OWN}\r\n{C}{O}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /users HTTP/1.1\r\nHost: {OWN}\r\n\r\n"
        check("length and chunks", raw(both.encode())[9:12] == b"400")
        raw(f"POST /chosen HTTP/1.1\r\nHost: {OWN}\r\n{C}{O}Content-Length: 100\r\n\r\nuser=".encode(), timeout=1)

        idle = [socket.create_connection(("127.0.0.1", PORT), timeout=5) for _ in range(300)]
        time.sleep(1)
        got = ask("/", extra=C)[0], post("/runs/r-x/undo", C + O)
        check("300 idle connections", got[0] == 200 and got[1] < 500, f"a page {got[0]}, undo {got[1]}")
        [connection.close() for connection in idle]
        time.sleep(1)
        check("after they went", ask("/", extra=C)[0] == 200)
    finally:
        console.send_signal(signal.SIGINT)
        try:
            console.wait(30)
        except subprocess.TimeoutExpired:
            console.kill()
    said = (d / "stderr").read_text()
    check("stderr has neither token nor cookie", token not in said and cookie.decode().split("=")[1] not in said)
    check("stderr has nothing unknown", "way it does not know" not in said, said.strip()[:120])
closing()
