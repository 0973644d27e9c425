"""The pictures of the page, as data URIs."""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib
import soundfile
import torch
import torchaudio
from matplotlib.figure import Figure
from torch import Tensor

from harmonicrnn.audio.writing import pcm16

COLOURS = ("#1f6f8b", "#c8553d", "#4f772d", "#7b4b94", "#b8860b", "#5c6770")
"""Of the subjects, in turn."""

STYLE = {
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


def position_plot(curves: Sequence[tuple[str, list[dict[str, float]]]]) -> str:
    """Bits per sample over the samples of context, for each named model."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.add_subplot(xlabel="samples of context", ylabel=BITS, xscale="symlog")
        for i, (name, curve) in enumerate(curves):
            bits = [row["bits_per_sample"] for row in curve]
            axes.plot([row["from"] for row in curve], bits, marker=".", color=COLOURS[i % len(COLOURS)], label=name)
        axes.set_xlim(left=0)
        _legend(figure, curves)
        return _svg(figure)


def histogram_plot(histograms: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """The likelihood of each clip, of the split (filled) and of a model's own clips (outlined), for each named model."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.add_subplot(xlabel=f"{BITS} of a clip", ylabel="share of clips")
        for i, (name, histogram) in enumerate(histograms):
            colour = COLOURS[i % len(COLOURS)]
            for of, filled in (("real", True), ("generated", False)):
                counts = histogram[of]["counts"]
                if sum(counts):
                    shares = [count / sum(counts) for count in counts]
                    style = {"fill": True, "alpha": 0.35} if filled else {"linestyle": "--"}
                    axes.stairs(shares, histogram[of]["edges"], color=colour, label=f"{of} under {name}", **style)
        _legend(figure, histograms)
        return _svg(figure)


def mel_image(samples: Tensor, sample_rate: int, split_at: float | None = None) -> str:
    """The mel-spectrogram of a waveform (T,); `split_at` marks where, in seconds, a prompt ends."""
    with matplotlib.rc_context(STYLE | {"font.size": 7, "axes.grid": False}):
        figure = Figure(figsize=(3.4, 1.5), dpi=110, layout="constrained")
        axes = figure.add_subplot(xlabel="seconds", ylabel="mel band")
        mel = mel_decibels(samples, sample_rate)
        extent = (0, len(samples) / sample_rate, 0, mel.shape[0])
        axes.imshow(mel, origin="lower", aspect="auto", extent=extent, vmin=-80, vmax=0, cmap="magma")
        axes.locator_params(nbins=5)
        if split_at is not None:
            axes.axvline(split_at, color="white", linestyle="--", linewidth=1)
        file = BytesIO()
        figure.savefig(file, format="png")
    return _uri("image/png", file.getvalue())


def wav(samples: Tensor, sample_rate: int) -> str:
    """A waveform (T,) as a 16-bit WAV."""
    file = BytesIO()
    soundfile.write(file, pcm16(samples.numpy()), sample_rate, format="WAV", subtype="PCM_16")
    return _uri("audio/wav", file.getvalue())


def _legend(figure: Figure, of: Sequence[Any]) -> None:
    if of:
        figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=8)


def _svg(figure: Figure) -> str:
    file = BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return _uri("image/svg+xml", file.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def mel_decibels(samples: Tensor, sample_rate: int) -> Tensor:
    """The mel-spectrogram of a waveform (T,) in dB under its peak, down to -80: (64, frames)."""
    window = 1024
    padded = torch.nn.functional.pad(samples, (0, max(0, window - len(samples))))
    mel = torchaudio.transforms.MelSpectrogram(sample_rate, n_fft=window, hop_length=window // 4, n_mels=64)(padded)
    decibels = torchaudio.functional.amplitude_to_DB(mel, 10.0, 1e-10, 0.0, top_db=80.0)
    return decibels - decibels.max()
