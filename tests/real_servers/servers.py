"""Authorization servers nobody here wrote: installed where that is needed, started, stopped."""

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "real_servers"
REDIRECT_URI = "http://127.0.0.1:8000/auth/provider/callback"
"""Of the portal as its tests run it; nothing listens there."""
LIFETIME = 3600
NODE_VERSION = 20
READY_SECONDS = 60
HARD_SECRET = "p%w+ d:&=/long enough for everybody"
"""Of the letters RFC 6749 allows (App. A.2); oidc-provider takes no others."""

CODE_BASIC = {"client_id": "code-basic", "client_secret": HARD_SECRET, "method": "client_secret_basic", "person": True}
CODE_BODY = {
    "client_id": "code-body",
    "client_secret": "body:" + HARD_SECRET,
    "method": "client_secret_post",
    "person": True,
}
MACHINE_BASIC = {**CODE_BASIC, "client_id": "machine-basic", "person": False}
MACHINE_BODY = {**CODE_BODY, "client_id": "machine-body", "person": False}
CLIENTS = [CODE_BASIC, CODE_BODY, MACHINE_BASIC, MACHINE_BODY]


class NotInstalled(Exception):
    """A server cannot be had on this machine; the message says why, in one line."""


@dataclass(frozen=True)
class Server:
    """A running server and where things are on it."""

    name: str
    url: str
    authorize_path: str
    token_path: str
    revoke_path: str
    issuer: str
    """What it names itself on the callback (RFC 9207); empty when it does not."""

    @property
    def address(self):
        """`host:port`, as settings allow it."""
        return self.url.removeprefix("http://")

    @property
    def endpoints(self):
        """As a connection's columns and a registration's fields name them."""
        return {
            "authorization_endpoint": self.url + self.authorize_path,
            "token_endpoint": self.url + self.token_path,
            "revocation_endpoint": self.url + self.revoke_path,
        }

    @property
    def api(self):
        """A resource that wants a token."""
        return f"{self.url}/api/orders"


@contextmanager
def django(folder):
    """django-oauth-toolkit, from requirements-dev.txt."""
    with _running([sys.executable, str(HERE / "django_server.py")], folder, folder) as url:
        yield Server("django-oauth-toolkit", url, "/o/authorize/", "/o/token/", "/o/revoke_token/", "")


@contextmanager
def oidc(folder):
    """oidc-provider, installed from npm on first use. Raises NotInstalled."""
    installed = _npm_install(HERE / "oidc")
    with _running([_node(), "server.mjs"], installed, folder) as url:
        yield Server("oidc-provider", url, "/auth", "/token", "/token/revocation", url)


SERVERS = {"django-oauth-toolkit": django, "oidc-provider": oidc}


def _node():
    node = shutil.which("node")
    if node is None:
        raise NotInstalled("it needs Node.js 20 or newer, and there is none")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.match(r"v(\d+)", version)[1]) < NODE_VERSION:
        raise NotInstalled(f"it needs Node.js 20 or newer, and this is {version.strip()}")
    return node


def _npm_install(source):
    """The folder with everything `source` locks, made once for each version of the lock."""
    _node()
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalled("it needs npm, and there is none")
    folder = CACHE / source.name
    folder.mkdir(parents=True, exist_ok=True)
    # Test processes side by side would install into the same folder at once.
    with (CACHE / f"{source.name}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        _install(npm, source, folder)
    return folder


def _install(npm, source, folder):
    lock = (source / "package-lock.json").read_bytes()
    done = folder / "installed"
    if not done.exists() or done.read_bytes() != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        if result.returncode:
            raise NotInstalled(f"npm could not install it: {' '.join(result.stderr.split())[:200]}")
        done.write_bytes(lock)
    for script in source.glob("*.mjs"):
        shutil.copy(script, folder)


@contextmanager
def _running(command, where, folder):
    """Start a server with its settings, wait until it is ready, stop it."""
    port = _free_port()
    settings = folder / "settings.json"
    settings.write_text(
        json.dumps(
            {
                "port": port,
                "folder": str(folder),
                "redirect_uri": REDIRECT_URI,
                "clients": CLIENTS,
                "lifetime": LIFETIME,
            }
        ),
        encoding="utf-8",
    )
    log = (folder / "server.log").open("w+b")
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    process = subprocess.Popen(
        [*command, str(settings)], cwd=where, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
    )
    late = threading.Timer(READY_SECONDS, process.kill)
    late.start()
    # Nothing more is read, but a server whose output is not taken would stop one day.
    rest = threading.Thread(target=process.stdout.read)
    try:
        while (line := process.stdout.readline()) and line.strip() != "ready":
            pass
        late.cancel()
        if not line:
            log.seek(0)
            raise AssertionError(f"{command[-1]} did not start: {log.read().decode()[-2000:]}")
        rest.start()
        yield f"http://127.0.0.1:{port}"
    finally:
        late.cancel()
        process.terminate()
        process.wait(10)
        if rest.ident is not None:
            rest.join(10)
        process.stdout.close()
        log.close()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
