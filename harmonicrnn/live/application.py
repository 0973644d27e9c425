"""The HTTP handlers of the live page and its audio stream."""

import asyncio
import re
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler, stream_request_body

from harmonicrnn.errors import UserError
from harmonicrnn.live.asking import MOST_BYTES, MOST_SECONDS, PROMPT_SECONDS, Asked
from harmonicrnn.voice import Voice

STALLED = 30.0  # seconds after which a listener that reads nothing is dropped
OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?")  # at any port, since ports may be forwarded
FILES = {"live.html": "text/html", "live.js": "text/javascript", "worklets.js": "text/javascript"}
POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; img-src data:; "
POLICY += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Stage:
    """Shared state of the handlers: the voices, the thread that draws, and the lock of the listener.

    Args:
        voices: by name, as shown on the page.
    """

    def __init__(self, voices: Mapping[str, Voice]) -> None:
        self.voices, self.lock = voices, asyncio.Lock()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="voice")


def application(stage: Stage) -> Application:
    """Returns the tornado application, for browsers on this machine only."""
    routes: list[Any] = [(f"/{'' if name == 'live.html' else name}", File, {"name": name}) for name in FILES]
    routes += [("/voices.json", Voices, {"stage": stage}), ("/stream", Listen, {"stage": stage})]
    return Application(routes, default_handler_class=Nothing, log_function=lambda handler: None)


class RefusedError(HTTPError):
    """A refused request, with the message for its sender."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(status)
        self.told = told


class Guarded(RequestHandler):
    """Refuses requests from other pages, including other host names that resolve to this machine (DNS rebinding)."""

    def set_default_headers(self) -> None:
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        host, origin = (self.request.headers.get(name) for name in ("Host", "Origin"))
        if not OWN_HOST.fullmatch(host or ""):
            raise RefusedError(403, "This is only for the browser on this machine, as 127.0.0.1 or localhost.")
        if origin not in (None, f"http://{host}"):
            raise RefusedError(403, "This is only for its own page, and another one asked.")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        if status_code == 503:
            self.set_header("Retry-After", "5")
        self.finish(f"{error.told if isinstance(error, RefusedError) else f'{status_code} {self._reason}'}\n")


class Nothing(Guarded):
    """Answers any other path with 404."""

    def prepare(self) -> None:
        super().prepare()
        raise RefusedError(404, "There is nothing here; the page is at /.")


class File(Guarded):
    """Serves the page or one of its scripts."""

    def initialize(self, name: str) -> None:
        self.name = name

    def get(self) -> None:
        self.set_header("Content-Type", f"{FILES[self.name]}; charset=utf-8")
        self.finish((Path(__file__).parent / self.name).read_bytes())


class Voices(Guarded):
    """Serves the settings and voices that the page shows."""

    def initialize(self, stage: Stage) -> None:
        self.stage = stage

    def get(self) -> None:
        voices = [
            {"name": name, "sample_rate": voice.sample_rate, "temperature": voice.temperature} for name, voice in self.stage.voices.items()
        ]
        self.finish({"voices": voices, "most_seconds": MOST_SECONDS, "prompt_seconds": PROMPT_SECONDS, "most_bytes": MOST_BYTES})


@stream_request_body
class Listen(Guarded):
    """POST with a prompt file or an empty body; voice, seconds, seed, temperature and top_p are query arguments. Streams samples as they
    are drawn, float32, little-endian."""

    def initialize(self, stage: Stage) -> None:
        self.stage, self.prompt = stage, bytearray()

    def prepare(self) -> None:
        super().prepare()
        length = self.request.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.request.headers:
            raise RefusedError(411, "Say how long the prompt is (Content-Length).")
        if length.isdecimal() and (len(length) > 12 or int(length) > MOST_BYTES):
            raise RefusedError(413, f"The prompt's file is too large: at most {MOST_BYTES >> 20} MiB are taken.")

    def data_received(self, chunk: bytes) -> None:
        self.prompt += chunk

    async def post(self) -> None:
        try:
            asked = Asked.of(lambda name: self.get_query_argument(name, ""), bytes(self.prompt), self.stage.voices)
        except UserError as error:
            raise RefusedError(400, str(error)) from error
        if self.stage.lock.locked():
            raise RefusedError(503, "Someone else is listening: wait until they are done, and play again.")
        async with self.stage.lock:
            await self._play(asked)

    async def _play(self, asked: Asked) -> None:
        """Sends blocks until the stream ends or the listener leaves."""
        drawing, sent = partial(asyncio.get_running_loop().run_in_executor, self.stage.thread), 0
        try:
            stream = await drawing(asked.stream)
            try:
                while (block := await drawing(next, stream, None)) is not None:
                    self.set_header("Content-Type", "application/octet-stream")
                    self.write(block.astype("<f4").tobytes())
                    await asyncio.wait_for(self.flush(), STALLED)
                    sent += len(block)
            finally:
                await drawing(stream.close)
        except (StreamClosedError, TimeoutError):
            self.detach().close()
        except UserError as error:
            if not sent:
                raise RefusedError(400, str(error)) from error
            print(f"error: {error}", file=sys.stderr)
            self.detach().close()  # an incomplete response tells the page that the stream broke off
