"""A real sign-in provider (oidc-provider on Node), and people who sign in."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2
from filelock import FileLock
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.conftest import ROOT, absent
from tests.destinations import free_port

LOCK = ROOT / "scripts/npm/oidc-provider"
FOLDER = ROOT / ".servers" / "oidc-provider"
READY_SECONDS = 30.0


@dataclass
class OidcProvider:
    """A provider that sends browsers back to the URL `console`."""

    issuer: str
    console_port: int
    key: RSAKey

    @property
    def console(self) -> str:
        return f"http://127.0.0.1:{self.console_port}"

    def settings(self) -> dict[str, Any]:
        """The settings of a console that uses it."""
        return {"oidc_issuer": self.issuer, "web_url": self.console}

    def token(self, key: Any = None, **claims: Any) -> str:
        """A bearer token of the provider, with other claims than the usual ones, or another key."""
        now = int(time.time())
        payload = {
            "iss": self.issuer, "aud": "tis-sync", "sub": "robot", "iat": now, "exp": now + 300,
            "realm_access": {"roles": ["tis-sync-update"]},
        } | claims  # fmt: skip
        key = key or self.key
        return jwt.encode({"alg": "RS256", "kid": key.kid}, payload, key)


def provider(home: Path) -> Iterator[OidcProvider]:
    """Run a provider; its packages are installed once, from the npm registry, as locked."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        absent("no Node.js with npm, for a sign-in provider")
        raise AssertionError
    library = installed_library(npm)
    port, console = free_port(), free_port()
    key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, private=True, auto_kid=True)
    created = OidcProvider(f"http://127.0.0.1:{port}", console, key)
    config = {
        "issuer": created.issuer, "port": port, "console": created.console, "library": str(library),
        "keys": [key.as_dict(private=True)],
    }  # fmt: skip
    (home / "config.json").write_text(json.dumps(config))
    with (home / "out").open("wb") as out:
        process = subprocess.Popen(
            [node, str(Path(__file__).parent / "oidc_provider.mjs"), str(home / "config.json")],
            stdout=out, stderr=out,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                httpx2.get(f"{created.issuer}/.well-known/openid-configuration").raise_for_status()
                break
            except httpx2.HTTPError:
                assert process.poll() is None, (home / "out").read_text()
                assert time.monotonic() < deadline, (home / "out").read_text()
                time.sleep(0.1)
        yield created
    finally:
        process.terminate()
        process.wait(30)


def installed_library(npm: str) -> Path:
    """Install the provider as locked, unless it is there already, and return its main module."""
    installed = FOLDER / "node_modules/.lock"  # the lock file of what is installed
    lock = (LOCK / "package-lock.json").read_bytes()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER.with_suffix(".lock")):  # of several test processes
        if not installed.exists() or installed.read_bytes() != lock:
            shutil.copytree(LOCK, FOLDER, dirs_exist_ok=True)
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=FOLDER, check=True, stdout=subprocess.DEVNULL)
            installed.write_bytes(lock)
    return FOLDER / "node_modules/oidc-provider/lib/index.js"


def sign_in(client: httpx2.Client, url: str, name: str) -> httpx2.Response:
    """Open a page like a browser: follow the redirect, sign in at the provider, and return."""
    response = client.get(url, follow_redirects=True)
    for _ in range(4):  # the provider asks for a name, then for consent
        form = re.search(r'<form[^>]*action="([^"]+)"', response.text)
        if form is None or "/sync/" in str(response.url):
            return response
        hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', response.text))
        if 'name="login"' in response.text:
            hidden |= {"login": name, "password": "any"}
        target = urljoin(str(response.url), unescape(form.group(1)))
        response = client.post(target, data=hidden, follow_redirects=True)
    return response
