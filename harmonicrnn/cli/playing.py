"""Where samples go while they are drawn: the sound device, through sounddevice (PortAudio), or standard output."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from harmonicrnn.audio.writing import pcm16, writing
from harmonicrnn.errors import UserError
from harmonicrnn.files import pasteable

LATENCY = 0.2  # seconds buffered in the device: the most a block may be late, and the unheard end of a stopped clip


def sound_device() -> Any:
    """Returns the module sounddevice; raises UserError, with what to install, if it or PortAudio is missing."""
    try:
        import sounddevice
    except ImportError as error:
        raise UserError("to play, install sounddevice: pip install .[play] (or pip install sounddevice)") from error
    except OSError as error:
        raise UserError(f"to play, install PortAudio (Debian: apt install libportaudio2): {error}") from error
    return sounddevice


@contextmanager
def playing(sample_rate: int, kept: Path | None = None) -> Iterator[Callable[[np.ndarray], None]]:
    """Yields a function that plays float32 samples (n,) on the default device, and blocks until it has room for them.

    At the end prints the number of under-runs and, if ended by Ctrl-C, the path `kept`.

    Raises:
        UserError: there is no device, or it cannot play this rate.
    """
    sounddevice, begun, under_runs = sound_device(), False, 0

    def hear(samples: np.ndarray) -> None:
        nonlocal begun, under_runs
        late = stream.write(samples[:, None])
        under_runs += bool(late) and begun  # before the first block the device is empty
        begun = True

    try:
        with sounddevice.OutputStream(samplerate=sample_rate, channels=1, dtype="float32", latency=LATENCY) as stream:
            try:
                yield hear
            except KeyboardInterrupt:
                if kept is not None and kept.exists():
                    print(f"What was heard is kept: {pasteable(kept)}", file=sys.stderr)
                raise
            finally:
                print(f"{under_runs} under-runs", file=sys.stderr)
    except sounddevice.PortAudioError as error:
        raise UserError(
            f"no device plays {sample_rate} Hz, or it stopped: {error}: look at python -m sounddevice; or leave out "
            "--play and play the file; of stream, add --stdout and pipe it into a player"
        ) from error


def check_not_a_terminal() -> None:
    """Raises UserError if standard output is a terminal."""
    if sys.stdout.isatty():
        raise UserError("--stdout writes raw samples, which a terminal cannot show: pipe them into a player or a file")


@contextmanager
def standard_output() -> Iterator[Callable[[np.ndarray], None]]:
    """Yields a function that writes samples (n,) to standard output, as raw 16-bit PCM; a reader that closes early ends the block quietly.

    Raises:
        UserError: they cannot be written.
    """

    def hear(samples: np.ndarray) -> None:
        with writing(Path("standard output")):
            sys.stdout.buffer.write(pcm16(samples).tobytes())
            sys.stdout.buffer.flush()

    try:
        yield hear
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            # Discards what is left in the buffer.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error.__cause__, BrokenPipeError):
            raise
