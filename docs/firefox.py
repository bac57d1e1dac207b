"""Firefox, headless, for the checks of the site: open a page, run JavaScript in it, type.

Playwright drives only its own build of Firefox. An installed one speaks WebDriver BiDi (https://w3c.github.io/webdriver-bidi/) over a
WebSocket, and these few commands are all that is needed here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

PREFERENCES = {"browser.shell.checkDefaultBrowser": False, "datareporting.policy.dataSubmissionEnabled": False}


def installed() -> str | None:
    """The path of a Firefox that has the package it needs, or None."""
    try:
        import websocket  # noqa: F401  (websocket-client, which Jupyter brings)
    except ImportError:
        return None
    return shutil.which("firefox") or shutil.which("firefox-esr")


class Firefox:
    """One tab. ``dark``: the reader's system prefers a dark page."""

    def __init__(self, path: str, *, dark: bool = False) -> None:
        import websocket

        self.profile, self.sent = tempfile.mkdtemp(prefix="firefox-"), 0
        preferences = PREFERENCES | {"ui.systemUsesDarkTheme": int(dark)}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
        (Path(self.profile) / "user.js").write_text("\n".join(lines), encoding="utf-8")
        command = [path, "--headless", "--no-remote", "--profile", self.profile, "--remote-debugging-port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        address = next((found[0] for line in self.process.stderr if (found := re.search(r"ws://\S+", line))), None)
        if address is None:
            raise RuntimeError(f"{path} ended before it could be driven")
        self.socket = websocket.create_connection(f"{address}/session", timeout=120, suppress_origin=True)
        self.events: list[dict[str, Any]] = []
        self.send("session.new", capabilities={})
        self.send("session.subscribe", events=["log.entryAdded"])
        self.tab = self.send("browsingContext.getTree")["contexts"][0]["context"]

    def __enter__(self) -> Firefox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.profile, ignore_errors=True)

    def send(self, method: str, **params: Any) -> Any:
        """The result of a command; what the page logs in the meantime goes to ``events``."""
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.sent:
                if message["type"] == "error":
                    raise RuntimeError(f"{method}: {message['message']}")
                return message["result"]
            self.events.append(message)

    def open(self, url: str, width: int = 1280, height: int = 900) -> None:
        self.send("browsingContext.setViewport", context=self.tab, viewport={"width": width, "height": height})
        self.send("browsingContext.navigate", context=self.tab, url=url, wait="complete")

    def evaluate(self, function: str, *arguments: Any) -> Any:
        """The result of a JavaScript function, asynchronous or not. Arguments and result are whatever JSON can hold."""
        call = f"Promise.resolve(({function})(...{json.dumps(arguments)})).then(JSON.stringify)"
        result = self.send("script.evaluate", expression=call, target={"context": self.tab}, awaitPromise=True)
        if result["type"] == "exception":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return json.loads(result["result"].get("value", "null"))

    def press(self, keys: str) -> None:
        """Type into whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.send("input.performActions", context=self.tab, actions=[{"type": "key", "id": "keys", "actions": actions}])
