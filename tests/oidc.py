"""A real sign-in provider (oidc-provider on Node), and people who sign in."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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


# Who may sign in, and with which roles.
PEOPLE = {
    "olga": ["tis-sync-update", "tis-sync-personal"],
    "ursula": ["tis-sync-update"],
    "petra": ["tis-sync-personal"],
    "vera": ["tis-sync-view", "tis-sync-personal"],
    "victor": ["tis-sync-view"],
    "<b>xavier</b>": ["tis-sync-view"],
    "nora": [],
}


def new_key() -> RSAKey:
    """A key for signatures."""
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, private=True, auto_kid=True)


@dataclass
class OidcProvider:
    """A provider that sends browsers back to the URL `console`.

    Attributes:
        home: the folder of its files.
        library: the module to run.
        port, console_port: where it and the console answer.
        key: signs its tokens.
        refresh_tokens: whether it issues them.
        other_keys: public keys that it publishes too.
        process: the process that answers.

    """

    home: Path
    library: Path
    node: str
    port: int
    console_port: int
    key: RSAKey = field(default_factory=new_key)
    refresh_tokens: bool = True
    other_keys: list[dict[str, str]] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def console(self) -> str:
        return f"http://127.0.0.1:{self.console_port}"

    def settings(self) -> dict[str, Any]:
        """The settings of a console that uses it."""
        return {"oidc_issuer": self.issuer, "web_url": self.console}

    def token(self, key: Any = None, header: Any = None, **claims: Any) -> str:
        """An access token of the provider, with other claims than usual, or another key or header.

        A claim that is None is left out.
        """
        now = int(time.time())
        payload = {
            "iss": self.issuer, "aud": "tis-sync", "sub": "robot", "iat": now, "exp": now + 300,
            "realm_access": {"roles": ["tis-sync-update"]},
        } | claims  # fmt: skip
        payload = {name: value for name, value in payload.items() if value is not None}
        key = key or self.key
        return jwt.encode({"alg": "RS256", "kid": key.kid, **(header or {})}, payload, key)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.set_people(PEOPLE)
        config = {
            "issuer": self.issuer, "port": self.port, "console": self.console,
            "library": str(self.library), "people": str(self.home / "people.json"),
            "keys": [self.key.as_dict(private=True)], "refresh_tokens": self.refresh_tokens,
            "other_keys": self.other_keys,
        }  # fmt: skip
        (self.home / "config.json").write_text(json.dumps(config))
        script = Path(__file__).parent / "oidc_provider.mjs"
        with (self.home / "out").open("wb") as out:
            self.process = subprocess.Popen(
                [self.node, str(script), str(self.home / "config.json")], stdout=out, stderr=out
            )
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                httpx2.get(f"{self.issuer}/.well-known/openid-configuration").raise_for_status()
                break
            except httpx2.HTTPError:
                assert self.process.poll() is None, (self.home / "out").read_text()
                assert time.monotonic() < deadline, (self.home / "out").read_text()
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop it; nothing answers at its address any more."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)

    def restart(self) -> None:
        """Restart it with its present keys and options."""
        self.stop()
        self.start()

    def rotate_key(self) -> None:
        """Replace the key that signs its tokens; the old one is gone."""
        self.key = new_key()
        self.restart()

    def set_people(self, people: dict[str, list[str]]) -> None:
        """Say who has an account, and with which roles."""
        path = self.home / "people.json"
        path.with_suffix(".new").write_text(json.dumps(people))
        path.with_suffix(".new").rename(path)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """While the block lasts, it accepts connections and never answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def provider(home: Path) -> Iterator[OidcProvider]:
    """Run a provider; its packages are installed once, from the npm registry, as locked."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        absent("no Node.js with npm, for a sign-in provider")
        raise AssertionError
    created = OidcProvider(home, installed_library(npm), node, free_port(), free_port())
    created.start()
    try:
        yield created
    finally:
        created.stop()


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
