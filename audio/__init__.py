"""Reading, quantising, synthesising and writing audio. Samples are float32 in [-1, 1], mono, at one rate."""

from audio.quantise import Quantiser, Scaling, extremes, scale
from audio.reading import read_mono, stream_mono
from audio.synthesis import Note, compose, render
from audio.writing import write_wav

__all__ = ["Note", "Quantiser", "Scaling", "compose", "extremes", "read_mono", "render", "scale", "stream_mono", "write_wav"]
