"""The server of the live page, on the loopback address only."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from socket import socket

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from harmonicrnn.errors import UserError
from harmonicrnn.live.application import Stage, application
from harmonicrnn.live.asking import MOST_BYTES
from harmonicrnn.signals import STOPPING
from harmonicrnn.voice import Voice

ADDRESS = "127.0.0.1"
UPLOAD = 60.0  # seconds that a prompt may take to arrive


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
