"""The server of the live page and its audio stream, on the loopback address only."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler, stream_request_body

from harmonicrnn.audio import stream_mono
from harmonicrnn.errors import UserError
from harmonicrnn.generation.sampler import check_arguments
from harmonicrnn.generation.stream import Stream
from harmonicrnn.signals import STOPPING
from harmonicrnn.voice import Voice

ADDRESS = "127.0.0.1"
UPLOAD = 60.0  # seconds that a prompt may take to arrive
MOST_SECONDS = 600.0  # of one stream, which the page keeps whole
PROMPT_SECONDS = 30.0  # of a prompt that are used; the model cannot be interrupted while it reads them
MOST_BYTES = 32 << 20  # of a prompt's file
SHOWN = 40  # characters of the input shown in messages
STALLED = 30.0  # seconds after which a listener that reads nothing is dropped
OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?")  # at any port, since ports may be forwarded
POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; img-src data:; "
POLICY += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Number = TypeVar("Number", int, float)


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
    routes: list[Any] = [(r"/(live\.js|worklets\.js|)", File), ("/voices.json", Voices), ("/stream", Listen)]
    return Application(routes, stage=stage, default_handler_class=Nothing, log_function=lambda handler: None)


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
            raise RefusedError(403, "This is only for this server's own page; the request came from another one.")

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

    def get(self, script: str) -> None:
        self.set_header("Content-Type", f"text/{'javascript' if script else 'html'}; charset=utf-8")
        self.finish((Path(__file__).parent / (script or "live.html")).read_bytes())


class Voices(Guarded):
    """Serves the settings and voices that the page shows."""

    def get(self) -> None:
        there: Mapping[str, Voice] = self.settings["stage"].voices
        voices = [{"name": name, "sample_rate": voice.sample_rate, "temperature": voice.temperature} for name, voice in there.items()]
        self.finish({"voices": voices, "most_seconds": MOST_SECONDS, "prompt_seconds": PROMPT_SECONDS, "most_bytes": MOST_BYTES})


@stream_request_body
class Listen(Guarded):
    """POST with a prompt file or an empty body; voice, seconds, seed, temperature and top_p are query arguments. Streams samples as they
    are drawn, float32, little-endian."""

    def prepare(self) -> None:
        super().prepare()
        self.stage, self.prompt = self.settings["stage"], bytearray()
        length = self.request.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.request.headers:
            raise RefusedError(411, "Say how long the prompt is (Content-Length).")
        if length.isdecimal() and (len(length) > 12 or int(length) > MOST_BYTES):
            raise RefusedError(413, f"The prompt's file is too large: at most {MOST_BYTES >> 20} MiB are taken.")

    def data_received(self, chunk: bytes) -> None:
        self.prompt += chunk

    async def post(self) -> None:
        try:
            opened = asked(lambda name: self.get_query_argument(name, ""), bytes(self.prompt), self.stage.voices)
        except UserError as error:
            raise RefusedError(400, str(error)) from error
        if self.stage.lock.locked():
            raise RefusedError(503, "Someone else is listening: wait until they are done, and play again.")
        async with self.stage.lock:
            await self._play(opened)

    async def _play(self, opened: Callable[[], Stream]) -> None:
        """Sends blocks until the stream ends or the listener leaves."""
        drawing, sent = partial(asyncio.get_running_loop().run_in_executor, self.stage.thread), 0
        try:
            stream = await drawing(opened)
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


def asked(given: Callable[[str], str], prompt: bytes, voices: Mapping[str, Voice]) -> Callable[[], Stream]:
    """Parses a request and returns a function that opens its stream, which raises UserError if the prompt cannot be used.

    Args:
        given: returns a query argument, empty if it is missing.
        prompt: content of an audio file to continue; empty for none.
        voices: by name.

    Raises:
        UserError: a number is invalid or the voice is unknown.
    """
    voice = voices.get(given("voice"))
    if voice is None:
        raise UserError(f"there is no voice {given('voice')[:SHOWN]!r}: load the page again")
    seconds, seed = _number("seconds", given("seconds"), float), _number("seed", given("seed"), int)
    temperature, top_p = (_number(name, given(name), float) for name in ("temperature", "top_p"))
    if not 0 < seconds <= MOST_SECONDS:
        raise UserError(f"seconds must be above 0 and at most {MOST_SECONDS:g}, got {seconds}")
    check_arguments(1, seed, temperature, top_p)

    def opened() -> Stream:
        heard = beginning(prompt, voice.sample_rate) if prompt else None
        return voice.stream(heard, seconds=seconds, seed=seed, temperature=temperature, top_p=top_p)

    return opened


def beginning(content: bytes, sample_rate: int) -> np.ndarray:
    """The first PROMPT_SECONDS of an audio file, mixed and resampled: (T,) float32 at `sample_rate` (Hz).

    Raises:
        UserError: it cannot be read.
    """
    most, pieces, length = round(PROMPT_SECONDS * sample_rate), list[np.ndarray](), 0
    with TemporaryDirectory() as folder:
        path = Path(folder) / "prompt"
        path.write_bytes(content)
        try:
            for piece in stream_mono(path, sample_rate):
                pieces.append(piece)
                length += len(piece)
                if length >= most:
                    break
        except UserError as error:
            raise UserError(str(error).replace(str(path), "the prompt")) from error
    return np.concatenate(pieces)[:most]


def _number(name: str, text: str, kind: type[Number]) -> Number:
    try:
        return kind(text)
    except ValueError as error:
        raise UserError(f"{name} must be a {'whole ' if kind is int else ''}number, got {text[:SHOWN]!r}") from error


def bind(port: int) -> list[socket]:
    """Returns listening sockets; port 0 takes any free port. Raises UserError if it is not available."""
    if not 0 <= port < 1 << 16:
        raise UserError(f"--port must be from 0 (any free port) to 65535, got {port}")
    try:
        return bind_sockets(port, ADDRESS)
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror or error}: give another one, or 0 for any free port") from error


@asynccontextmanager
async def serving(voices: Mapping[str, Voice], sockets: list[socket]) -> AsyncIterator[Stage]:
    """Serves requests inside the context; on exit disconnects listeners and finishes the block being drawn."""
    stage = Stage(voices)
    server = HTTPServer(application(stage), max_body_size=MOST_BYTES, body_timeout=UPLOAD)
    server.add_sockets(sockets)
    try:
        yield stage
    finally:
        server.stop()
        await server.close_all_connections()
        async with stage.lock:
            stage.thread.shutdown()


def serve_until_signal(voices: Mapping[str, Voice], sockets: list[socket], ready: Callable[[], None]) -> None:
    """Serves requests until a stop signal; a second Ctrl-C ends at once.

    Args:
        voices: by name, as shown on the page.
        sockets: as returned by `bind`.
        ready: called once the server accepts requests.
    """

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            stop.set()
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        async with serving(voices, sockets):
            for signum in STOPPING:
                loop.add_signal_handler(signum, end)
            ready()
            await stop.wait()

    asyncio.run(serve())
