"""Controls a page in headless Chromium by its DevTools protocol."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

PATIENCE = 60.0  # seconds


class Page:
    """A tab. Answers come in the order of the calls; other messages of Chromium are kept in `events`."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket, self._calls, self.events = socket, 0, list[dict[str, Any]]()

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol and returns its result."""
        self._calls += 1
        await self._socket.write_message(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            told = json.loads(await asyncio.wait_for(self._socket.read_message(), PATIENCE))
            if told.get("id") == self._calls:
                assert "error" not in told, told
                return told["result"]
            self.events.append(told)

    async def value(self, script: str) -> Any:
        """Evaluates an expression as if by a user gesture, awaits it, and returns its value."""
        asked = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        told = await self.call("Runtime.evaluate", expression=script, **asked)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, script: str) -> Any:
        """Waits until an expression is true and returns its value."""
        async with asyncio.timeout(PATIENCE):
            while not (found := await self.value(script)):
                await asyncio.sleep(0.05)
            return found


@asynccontextmanager
async def opened(address: str, folder: Path) -> AsyncIterator[Page]:
    """Yields a page with a microphone that beeps; what the page saves goes to `folder`. Skips the test if there is no Chromium."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed (make browser)")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    fakes = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--mute-audio"]
    profile = folder / "profile"
    command = [
        found,
        "--headless",
        *sandbox,
        *fakes,
        "--disable-gpu",
        f"--user-data-dir={profile}",
        "--remote-debugging-port=0",
        "about:blank",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            async with asyncio.timeout(PATIENCE):
                while not (told := profile / "DevToolsActivePort").is_file() or "\n" not in told.read_text():
                    await asyncio.sleep(0.05)
            browser = f"http://127.0.0.1:{told.read_text().split()[0]}"
            made = HTTPRequest(f"{browser}/json/new?{address}", method="PUT", body="", request_timeout=PATIENCE)
            tab = json.loads((await AsyncHTTPClient().fetch(made)).body)
            socket = await websocket_connect(tab["webSocketDebuggerUrl"], max_message_size=1 << 28)
            page = Page(socket)
            for method in ("Runtime.enable", "Log.enable"):
                await page.call(method)
            await page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
            yield page
            socket.close()
        finally:
            process.terminate()
            process.wait()
