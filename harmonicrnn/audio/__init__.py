"""Reading, quantising, synthesising and writing audio. Samples are mono float32 in [-1, 1]."""

from harmonicrnn.audio.dataset import Batch, Dataset, Split
from harmonicrnn.audio.quantise import Quantiser, Scaling, extremes, scale, span_of
from harmonicrnn.audio.reading import read_mono, stream_mono
from harmonicrnn.audio.synthesis import Note, compose, render
from harmonicrnn.audio.writing import write_wav

__all__ = [
    "Batch",
    "Dataset",
    "Note",
    "Quantiser",
    "Scaling",
    "Split",
    "compose",
    "extremes",
    "read_mono",
    "render",
    "scale",
    "span_of",
    "stream_mono",
    "write_wav",
]
