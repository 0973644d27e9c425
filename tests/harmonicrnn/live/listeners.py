"""A server for the tests, and voices that record the calls they get."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from queue import Queue
from urllib.parse import urlencode

import numpy as np

from harmonicrnn.errors import UserError
from harmonicrnn.live.application import bind, serving

ASKED = {"voice": "hum", "seconds": 1, "seed": 0, "temperature": 1, "top_p": 1}
PATIENCE = 60.0  # seconds after which a waiting test fails


class Hum:
    """A voice with blocks of constant samples; records the calls it gets, and counts the open streams.

    Args:
        pause: seconds per block.
        breaks: number of the block at which it fails; None for none.
        block: samples per block.
    """

    sample_rate, temperature = 8000, 0.9

    def __init__(self, pause: float = 0.0, breaks: int | None = None, block: int = 400) -> None:
        self.pause, self.breaks, self.block = pause, breaks, block
        self.asked, self.drawn, self.open = list[dict](), 0, 0

    def stream(self, prompt=None, seconds=None, **asked):
        self.asked.append({"prompt": prompt, "seconds": seconds, **asked})
        self.open += 1
        voice = self

        class Blocks:
            def __init__(self):
                self.left = (voice.sample_rate if seconds is None else round(seconds * voice.sample_rate)) // voice.block
                self.made = 0

            def __iter__(self):
                return self

            def __next__(self):
                if self.made == voice.breaks:
                    raise UserError("the model's logits are not finite")
                if self.made == self.left:
                    raise StopIteration
                time.sleep(voice.pause)
                self.made += 1
                voice.drawn += 1
                return np.full(voice.block, self.made / 1024, np.float32)

            def close(self):
                voice.open -= 1

            __enter__ = __iter__

            def __exit__(self, *error):
                self.close()

        return Blocks()


@contextmanager
def on_air(voices) -> Iterator[int]:
    """Serves voices and yields the port; fails if the server does not end cleanly."""
    sockets, box = bind(0), Queue()

    async def main():
        stop = asyncio.Event()
        async with serving(voices, sockets):
            box.put((asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    loop, stop = box.get(timeout=PATIENCE)
    try:
        yield sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        assert not thread.is_alive()


def ask(port: int, method: str = "POST", path: str | None = None, body: bytes | None = None, headers=None, **asked) -> HTTPResponse:
    """Sends a request and returns the response, whose body is not read yet."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    path = f"/stream?{urlencode(ASKED | asked)}" if path is None else path
    connection.request(method, path, body, {"Connection": "close", **(headers or {})})
    return connection.getresponse()


def samples_of(answer: HTTPResponse) -> np.ndarray:
    """Returns all samples of a response (T,)."""
    assert answer.status == 200, answer.read()
    return np.frombuffer(answer.read(), "<f4")


def wait_until(true) -> None:
    """Waits until `true()` is true; fails after `PATIENCE` seconds."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
