"""Parses a listener's request and opens its stream."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np

from harmonicrnn.audio import stream_mono
from harmonicrnn.errors import UserError
from harmonicrnn.generation.sampler import check_arguments
from harmonicrnn.generation.stream import Stream
from harmonicrnn.voice import Voice

MOST_SECONDS = 600.0  # of one stream, which the page keeps whole
PROMPT_SECONDS = 30.0  # of a prompt that are used; the model cannot be interrupted while it reads them
MOST_BYTES = 32 << 20  # of a prompt's file
SHOWN = 40  # characters of the input shown in messages

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Asked:
    """A request: a voice and the settings of the stream.

    seconds: above 0, at most MOST_SECONDS.
    seed, temperature, top_p: as for `Voice.stream`.
    prompt: content of an audio file to continue; empty for none.
    """

    voice: Voice
    seconds: float
    seed: int
    temperature: float
    top_p: float
    prompt: bytes

    @classmethod
    def of(cls, given: Callable[[str], str], prompt: bytes, voices: Mapping[str, Voice]) -> "Asked":
        """Parses the input `given(name)`; raises UserError if a number is invalid or the voice is unknown."""
        voice = voices.get(given("voice"))
        if voice is None:
            raise UserError(f"there is no voice {given('voice')[:SHOWN]!r}: load the page again")
        seconds, seed = _number("seconds", given("seconds"), float), _number("seed", given("seed"), int)
        temperature, top_p = (_number(name, given(name), float) for name in ("temperature", "top_p"))
        if not 0 < seconds <= MOST_SECONDS:
            raise UserError(f"seconds must be above 0 and at most {MOST_SECONDS:g}, got {seconds}")
        check_arguments(1, seed, temperature, top_p)
        return cls(voice, seconds, seed, temperature, top_p, prompt)

    def stream(self) -> Stream:
        """Reads the prompt and returns the stream.

        Raises:
            UserError: the prompt cannot be used.
        """
        prompt = beginning(self.prompt, self.voice.sample_rate) if self.prompt else None
        return self.voice.stream(prompt, seconds=self.seconds, seed=self.seed, temperature=self.temperature, top_p=self.top_p)


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
