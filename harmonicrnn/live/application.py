"""The page, and the sound that it asks for, over HTTP."""

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

STALLED = 30.0  # seconds that a listener may take nothing for
OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?")  # at any port, which may be forwarded to this machine's
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
    """The voices, the thread that they play in, and the lock that a listener holds.

    Args:
        voices: by the names that the page shows.
    """

    def __init__(self, voices: Mapping[str, Voice]) -> None:
        self.voices, self.lock = voices, asyncio.Lock()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="voice")


def application(stage: Stage) -> Application:
    """What answers requests, of browsers on this machine alone."""
    routes: list[Any] = [(f"/{'' if name == 'live.html' else name}", File, {"name": name}) for name in FILES]
    routes += [("/voices.json", Voices, {"stage": stage}), ("/stream", Listen, {"stage": stage})]
    return Application(routes, default_handler_class=Nothing, log_function=lambda handler: None)


class RefusedError(HTTPError):
    """A request that is not answered, and what its sender is told."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(status)
        self.told = told


class Guarded(RequestHandler):
    """Answers nothing that another page may have asked for, also under a host name of its own that leads here (DNS rebinding)."""

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
    """What is asked for at any other path."""

    def prepare(self) -> None:
        super().prepare()
        raise RefusedError(404, "There is nothing here; the page is at /.")


class File(Guarded):
    """The page, or a script of it."""

    def initialize(self, name: str) -> None:
        self.name = name

    def get(self) -> None:
        self.set_header("Content-Type", f"{FILES[self.name]}; charset=utf-8")
        self.finish((Path(__file__).parent / self.name).read_bytes())


class Voices(Guarded):
    """What the page has to know."""

    def initialize(self, stage: Stage) -> None:
        self.stage = stage

    def get(self) -> None:
        voices = [
            {"name": name, "sample_rate": voice.sample_rate, "temperature": voice.temperature} for name, voice in self.stage.voices.items()
        ]
        self.finish({"voices": voices, "most_seconds": MOST_SECONDS, "prompt_seconds": PROMPT_SECONDS, "most_bytes": MOST_BYTES})


@stream_request_body
class Listen(Guarded):
    """POST of a prompt's file, or of nothing; voice, seconds, seed, temperature and top_p are in the query. Answers samples as they are
    drawn, float32, little-endian."""

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
        """Sends what is drawn until its end, or until the listener leaves."""
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
            self.detach().close()  # without the end of an answer, so that the page knows
