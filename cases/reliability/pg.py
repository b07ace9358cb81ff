"""A PostgreSQL server of one's own, on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support.postgres_server import _other_user, _run, _wait, binaries  # noqa: E402


class PG:
    def __init__(self, extra=()):
        self.dir = Path(tempfile.mkdtemp(prefix="hrelpg-")); self.dir.chmod(0o755)
        self.user = _other_user(); self.data = self.dir / "pg"; self.data.mkdir(); shutil.chown(self.data, self.user)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0)); self.port = s.getsockname()[1]
        _run(self.user, "initdb", "-D", str(self.data), "-U", "sparekey", "-A", "trust", "-N", "--no-instructions")
        self.extra = list(extra); self.start()
        _run(self.user, "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "sparekey", "sparekey")
        self.url = f"postgresql://sparekey@127.0.0.1:{self.port}/sparekey"

    def start(self):
        options = ["-c", f"unix_socket_directories={self.data}", "-c", "fsync=off", "-c", "max_connections=200", *self.extra]
        self.p = subprocess.Popen([binaries() / "postgres", "-D", str(self.data), "-h", "127.0.0.1", "-p", str(self.port), *options], user=self.user, cwd=self.data, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait(f"postgresql://sparekey@127.0.0.1:{self.port}/postgres", self.p)

    def kill9(self):
        kids = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.p.pid)], capture_output=True, text=True).stdout.split()
        self.p.kill(); self.p.wait()
        for kid in kids:
            try: os.kill(int(kid), 9)
            except OSError: pass

    def sql(self, query):
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as c:
            r = c.execute(query)
            return r.fetchall() if r.description else None

    def stop(self):
        self.p.send_signal(signal.SIGINT)
        try: self.p.wait(20)
        except subprocess.TimeoutExpired: self.p.kill()
        shutil.rmtree(self.dir, ignore_errors=True)
