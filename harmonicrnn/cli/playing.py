"""Plays a clip while it is drawn, through sounddevice (PortAudio)."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from harmonicrnn.audio import Quantiser
from harmonicrnn.errors import UserError
from harmonicrnn.files import pasteable

LATENCY = 0.2  # seconds buffered in the device: the most a block may be late, and the unheard end of a stopped clip


def sound_device() -> Any:
    """Returns the module sounddevice; raises UserError, with what to install, if it or PortAudio is missing."""
    try:
        import sounddevice
    except ImportError as error:
        raise UserError("--play needs sounddevice: pip install .[play] (or pip install sounddevice); or leave --play out") from error
    except OSError as error:
        raise UserError(f"--play: {error}: install PortAudio (Debian: apt install libportaudio2); or leave --play out") from error
    return sounddevice


@contextmanager
def playing(quantiser: Quantiser, sample_rate: int, kept: Path) -> Iterator[Callable[[Tensor], None]]:
    """Yields a function that plays classes (n,) on the default device, and blocks until it has room for them.

    At the end prints the number of underruns and, if ended by Ctrl-C, the path `kept`.

    Raises:
        UserError: there is no device, or it cannot play this rate.
    """
    sounddevice, begun, under_runs = sound_device(), False, 0

    def hear(classes: Tensor) -> None:
        nonlocal begun, under_runs
        late = stream.write(quantiser.decode_centre(classes).numpy()[:, None])
        under_runs += bool(late) and begun  # before the first block the device is empty
        begun = True

    try:
        with sounddevice.OutputStream(samplerate=sample_rate, channels=1, dtype="float32", latency=LATENCY) as stream:
            try:
                yield hear
            except KeyboardInterrupt:
                if kept.exists():
                    print(f"What was heard is kept: {pasteable(kept)}", file=sys.stderr)
                raise
            finally:
                print(f"{under_runs} under-runs", file=sys.stderr)
    except sounddevice.PortAudioError as error:
        raise UserError(
            f"--play: no device plays {sample_rate} Hz, or it stopped: {error}: look at python -m sounddevice; or leave "
            "--play out, and play the file"
        ) from error
