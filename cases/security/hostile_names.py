"""Hostile user names, aliases, agents and regions in every report, on the terminal, in the reverse file, in the console.

The practice AWS refuses such names as the real one does, so its check is taken out here: this plays an endpoint that lies.

Run: SK_VENV=… python3 hostile_names.py (two minutes). Expected: no control character, no bidirectional override and no
markup of theirs in any output, no formula in CSV, and the reverse file passes every name whole. Before: `audit --format asff`,
`--format ocsf` and `ledger export` carry U+009B (a terminal's CSI), U+202E and U+200B as they are.
"""

import csv
import http.cookiejar
import io
import re
import signal
import time
import urllib.error
import urllib.parse
import urllib.request

from common import *
import sparekey.sandbox.iam as practice


class AnyName:
    """Python's re, for which every user name is one."""

    def __getattr__(self, name: str) -> object:
        return getattr(re, name)

    def fullmatch(self, pattern: str, text: str, *flags: int) -> object:
        return True if pattern.startswith(r"[\w+=,.@-]{1,128}") else re.fullmatch(pattern, text, *flags)


practice.re = AnyName()
ESC, CSI, RLO = "\x1b[2J\x1b]0;owned\x07", "\x9b2J", "\u202e"
NAMES = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' hx-get=/x hx-trigger=load '", "=cmd|'/c calc'!A1", "+1+1", "@SUM(A1)", "-rf",
    "[red]x[/red][link=http://evil.example]y[/link]", "{{7*7}}{% raw %}", "a; rm -rf $HOME; `id` $(id)", f"e{CSI}31m", f"b{RLO}evil\u2066", "..",
    "%s%n{0.__class__}", "a\nb\r\nc", "\u200bzero", "javascript:alert(1)",
]  # fmt: skip


def toml(text: str) -> str:
    return json.dumps(text).replace("\x7f", "\\u007f")


scenario = f'seed="h5"\n[caller]\naccount="{ACCOUNT}"\nuser="ops"\n[[account]]\nid="{ACCOUNT}"\nalias={toml(f"<b>al</b>{CSI}{RLO}")}\nname={toml("=n<i>")}\n[[account.user]]\nname="ops"\nkey=[{{age="20d"}}]\n'
for name in NAMES:
    scenario += f'[[account.user]]\nname={toml(name)}\npath={toml(f"/<p>{CSI}{RLO}/")}\nkey=[{{age="400d",used={{ago="60d",service="s3",region={toml(f"<r>{CSI}{RLO}")}}}}},{{age="30d",used={{ago="2h",service={toml(f"=s<u>{CSI}{RLO}")},region="us-east-1"}}}}]\n'
scenario += f'[[account.app]]\nname="a"\nuser={toml(NAMES[0])}\nkey=1\ncalls=["s3:PutObject","athena:StartQueryExecution"]\nevery="6h"\nfrom="80d"\nto="60d"\nagent={toml(f"<script>alert(2)</script>=1{ESC}{RLO} " + "(" * 500)}\nsource={toml(f"<img src=x onerror=alert(3)>{ESC}")}\n'
BAD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b]")
MARKUP = ("<script>alert", "<img src=x", "<b>al", "<i>", "<u>", "<r>", "<p>\x9b")


def clean(form: str, text: str, html: bool = False) -> None:
    bad = sorted(set(BAD.findall(text.replace("\r\n", "\n"))))
    markup = [word for word in MARKUP if html and word in text]
    check(form, not bad and not markup, " ".join([repr(c) for c in bad] + markup))


with Sandbox(scenario) as aws, folder() as d:
    env = env_of(aws, d)
    for name in ("table", "json", "csv", "html", "asff", "ocsf"):
        done = run(env, "audit", "--format", name)
        clean(f"audit, {name}", done.stdout + done.stderr, name == "html")
        if name == "csv":
            formulas = {cell for row in csv.reader(io.StringIO(done.stdout)) for cell in row if cell[:1] in set("=+-@\t\r")}
            check("audit, csv: no formula", not formulas, sorted(formulas)[:3])
    made = plan(env, d / "p.json")
    done = run(env, "plan")
    clean("plan", done.stdout + done.stderr)
    done = run(env, "apply", d / "p.json", "--yes", "--max-keys", "99")
    clean("apply", done.stdout + done.stderr)
    name = run_id(made)
    for args in (("show", name), ("show", name, "--format", "csv"), ("show", name, "--format", "json"), ("runs",), ("report", name), ("ledger", "export", name)):
        done = run(env, *args)
        clean(" ".join(args).replace(name, "RUN"), done.stdout + done.stderr, args[0] == "report")

    (d / "bin").mkdir()
    (d / "bin/aws").write_text(f"#!{VENV}/bin/python\nimport json, sys\nopen({str(d / 'called')!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n")
    (d / "bin/aws").chmod(0o755)
    subprocess.run(["bash", d / f"state/reverse/{name}.sh"], env={"PATH": f"{d}/bin:{ALIVE['PATH']}", "HOME": str(d)}, check=False, capture_output=True)
    called = [json.loads(line) for line in (d / "called").read_text().splitlines()]
    told = {next((w.partition("=")[2] if "=" in w[:12] else words[words.index(w) + 1]) for w in words if w.startswith("--user-name")) for words in called}
    gone = {step["user"] for step in made["steps"] if step["action"] == "deactivate"}
    check("reverse file: every name whole", told == gone, f"{len(told & gone)} of {len(gone)}")

    aws.export_archive(d / "trail")
    done = run(env, "usage", next(iter(keys(aws, NAMES[0]))), "--source", f"archive={d / 'trail'}")
    clean("usage", done.stdout + done.stderr)

    console = subprocess.Popen([BIN, "console", "--no-browser"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=(d / "stderr").open("w"), text=True)
    try:
        address = console.stdout.readline().strip()
        base, opener = address.split("/open")[0], urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

        def page(path: str, **form: str) -> str:
            data = urllib.parse.urlencode(form).encode() if form else None
            asked = urllib.request.Request(base + path, data, headers={"Origin": base} if form else {})
            try:
                return opener.open(asked, timeout=60).read().decode()
            except urllib.error.HTTPError as error:
                return error.read().decode()

        opener.open(address).read()
        page("/")
        time.sleep(6)
        for path in ("/", "/users?show=all", "/users?show=all&q=%3Cscript%3Ealert(9)", "/held", "/runs", f"/runs/{name}", "/exemptions", "/runs/%3Cscript%3Ealert(1)"):
            clean(f"console {path}".replace(name, "RUN"), page(path), True)
        for user in (NAMES[0], NAMES[1], NAMES[2], NAMES[10], NAMES[11]):
            page("/usage", account=ACCOUNT, name=user)
            time.sleep(1)
            clean(f"console, the user {user!r:.20}", page("/user?" + urllib.parse.urlencode({"account": ACCOUNT, "name": user})), True)
        clean("console, a plan", page("/plans", account=ACCOUNT, name=NAMES[3], force="<script>alert(5)</script>", because=f"<script>alert(6)</script>{ESC}"), True)
    finally:
        console.send_signal(signal.SIGINT)
        try:
            console.wait(30)
        except subprocess.TimeoutExpired:
            console.kill()
    clean("console, stderr", (d / "stderr").read_text())
closing()
