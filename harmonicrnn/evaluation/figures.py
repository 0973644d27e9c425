"""Figures of the report, and figures and audio as data URIs for the page."""

import base64
import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
import soundfile
import torch
import torchaudio
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from harmonicrnn.audio.writing import pcm16
from harmonicrnn.metrics.nll import PositionBin

COLOURS = ("#1f6f8b", "#c8553d", "#4f772d", "#7b4b94", "#b8860b", "#5c6770")
"""Colours of the subjects, in turn."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "axes.axisbelow": True,
}
BITS = "bits per sample"
BINS = 30
WINDOW, MELS = 1024, 64  # samples, bands
MARKS = (500, 1000, 2000, 4000, 8000, 16_000)
"""Hz, on the axis of a mel-spectrogram."""


def position_figure(curves: Sequence[tuple[str, list[PositionBin]]]) -> Figure:
    """Plots bits per sample over samples of context, for each named model."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.add_subplot(xlabel="samples of context", ylabel=BITS, xscale="symlog")
        for i, (name, curve) in enumerate(curves):
            bits = [row["bits_per_sample"] for row in curve]
            axes.plot([row["from"] for row in curve], bits, marker=".", color=COLOURS[i % len(COLOURS)], label=name)
        axes.set_xlim(left=0)
        _legend(figure, curves)
    return figure


def histogram_figure(likelihoods: Sequence[tuple[str, list[float], list[float]]]) -> Figure:
    """Plots histograms of clips' bits per sample: the split's (filled) and each named model's own (outlined)."""
    everything = [bits for _, *both in likelihoods for values in both for bits in values]
    edges = np.histogram_bin_edges(everything, BINS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.add_subplot(xlabel=f"{BITS} of a clip", ylabel="share of clips")
        for i, (name, real, generated) in enumerate(likelihoods):
            for of, values, style in (("real", real, {"fill": True, "alpha": 0.35}), ("generated", generated, {"linestyle": "--"})):
                if values:
                    shares = np.histogram(values, edges)[0] / len(values)
                    axes.stairs(shares, edges, color=COLOURS[i % len(COLOURS)], label=f"{of} under {name}", **style)
        _legend(figure, likelihoods)
    return figure


def waveform_figure(samples: Tensor, sample_rate: int) -> Figure:
    """Plots a waveform (T,) over time in seconds."""
    figure = Figure(figsize=(8, 2.5), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds", ylabel="amplitude", ylim=(-1, 1))
    axes.plot(torch.arange(len(samples)) / sample_rate, samples, linewidth=0.5)
    return figure


def mel_figure(samples: Tensor, sample_rate: int, split_at: float | None = None, size: tuple[float, float] = (3.4, 1.5)) -> Figure:
    """Plots a mel-spectrogram (dB under its peak) of a waveform (T,); `split_at` marks a time in s, `size` is in inches."""
    with matplotlib.rc_context(STYLE | {"font.size": 7, "axes.grid": False}):
        figure = Figure(figsize=size, dpi=110, layout="constrained")
        axes = figure.add_subplot(xlabel="seconds", ylabel="Hz")
        show_mel(axes, samples, sample_rate)
        axes.locator_params(axis="x", nbins=5)
        if split_at is not None:
            axes.axvline(split_at, color="white", linestyle="--", linewidth=1)
    return figure


def show_mel(axes: Axes, samples: Tensor, sample_rate: int) -> None:
    """Draws the mel-spectrogram (dB under its peak) of a waveform (T,) over seconds and Hz."""
    mel = mel_decibels(samples, sample_rate)
    extent = (0, max(len(samples), WINDOW) / sample_rate, 0, mel.shape[0])
    axes.imshow(mel, origin="lower", aspect="auto", extent=extent, vmin=-80, vmax=0, cmap="magma")
    hertz = [each for each in MARKS if mel_position(each, sample_rate) < MELS]
    axes.set_yticks([mel_position(each, sample_rate) for each in hertz], [f"{each:,}" for each in hertz])


def svg(figure: Figure) -> str:
    """Returns a figure as an SVG data URI."""
    file = BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return _uri("image/svg+xml", file.getvalue())


def png(figure: Figure) -> str:
    """Returns a figure as a PNG data URI."""
    file = BytesIO()
    figure.savefig(file, format="png")
    return _uri("image/png", file.getvalue())


def wav(samples: Tensor, sample_rate: int) -> str:
    """Returns a waveform (T,) as a 16-bit WAV data URI."""
    file = BytesIO()
    soundfile.write(file, pcm16(samples.numpy()), sample_rate, format="WAV", subtype="PCM_16")
    return _uri("audio/wav", file.getvalue())


def mel_decibels(samples: Tensor, sample_rate: int) -> Tensor:
    """Returns the mel-spectrogram of a waveform (T,) in dB under its peak, at least -80: (MELS, frames)."""
    padded = torch.nn.functional.pad(samples, (0, max(0, WINDOW - len(samples))))
    mel = torchaudio.transforms.MelSpectrogram(sample_rate, n_fft=WINDOW, hop_length=WINDOW // 4, n_mels=MELS)(padded)
    decibels = torchaudio.functional.amplitude_to_DB(mel, 10.0, 1e-10, 0.0, top_db=80.0)
    return decibels - decibels.max()


def mel_position(hertz: float, sample_rate: int) -> float:
    """Returns the position of a frequency on a mel axis, where band i covers i to i + 1."""

    def mel(frequency: float) -> float:
        return 2595 * math.log10(1 + frequency / 700)

    return (MELS + 1) * mel(hertz) / mel(sample_rate // 2) - 0.5


def _legend(figure: Figure, of: Sequence[Any]) -> None:
    if of:
        figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=8)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
