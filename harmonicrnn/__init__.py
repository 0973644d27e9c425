"""The library HarmonicRNN: trained models of raw audio (`load`, `Voice`) and the parts they are built from.

from harmonicrnn import load

voice = load("logs/run/version_0")
voice.nll("recording.wav")
audio = voice.generate(10.0)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harmonicrnn.voice import Voice, load

__all__ = ["Voice", "__version__", "load"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    # Imported on first use: parts of the library do not need the dependencies of whole models.
    if name in ("Voice", "load"):
        from harmonicrnn import voice

        return getattr(voice, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
