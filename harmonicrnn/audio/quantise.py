"""Quantisation of samples to classes and back, in float32, as in the published tables (the S4/SaShiMi repository).

Two steps: scaling maps a clip to s in [0, 1], a quantiser maps s to one of q = 2^bits classes. Silence is class q / 2.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from harmonicrnn.errors import check_bits, check_choice

Law = Literal["mu-law", "linear"]
Scaling = Literal["clip", "file", "peak", "none"]
"""Range mapped to full scale: extremes of the clip or of its file, the file's absolute peak, or [-1, 1]."""
OF_WHOLE_FILES: tuple[Scaling, ...] = ("file", "peak")
Span = tuple[float, float] | float | None
EPSILON = 1e-6


def extremes(samples: Tensor) -> tuple[float, float]:
    """Returns the lowest and the highest sample; (0, 0) for an empty tensor."""
    if not samples.numel():
        return 0.0, 0.0
    low, high = torch.aminmax(samples)
    return low.item(), high.item()


def span_of(scaling: Scaling, low: float, high: float) -> Span:
    """Returns the `span` argument of `scale` for a clip or file with these extremes."""
    if scaling == "none":
        return None
    return max(-low, high) or 1.0 if scaling == "peak" else (low, high)


def scale(samples: Tensor, span: Span) -> Tensor:
    """Returns s in [0, 1] for samples (any shape, float32).

    Args:
        samples: audio.
        span: extremes (min, max) of the clip or file: s = (x - min) / (max - min + 1e-6). Or the peak p: samples are clamped to [-p, p]
            and s = (x / p + 1) / 2, so that silence stays silence; None is a peak of 1.
    """
    if span is None or isinstance(span, float):
        return ((samples / (span or 1.0)).clamp(-1, 1) + 1) / 2
    low, high = torch.tensor(span, dtype=samples.dtype)
    return (samples - low) / (high - low + EPSILON)


@dataclass(frozen=True)
class Quantiser:
    """Maps scaled samples to classes, and classes to samples in [-1, 1].

    With mu = q - 1:
        linear: class = floor(s (q - 0.01) + 0.005)
        mu-law: v = 2s - 1, e = sign(v) log1p(mu |v + 1e-8|) / log1p(mu), class = floor((e + 1)/2 (q - 0.01) + 0.005)

    Args:
        bits: 4 to 12; q = 2^bits classes.
        law: spacing of the classes.

    Raises:
        UserError: bits out of range, or an unknown law.
    """

    bits: int = 8
    law: Law = "mu-law"

    def __post_init__(self) -> None:
        check_bits("bits", self.bits)
        check_choice("law", self.law, get_args(Law))

    @property
    def classes(self) -> int:
        """The number of classes q."""
        return 2**self.bits

    @property
    def zero_level(self) -> int:
        """The class of silence."""
        return self.classes // 2

    def encode(self, scaled: Tensor) -> Tensor:
        """Returns the classes (int16, same shape) of s in [0, 1]."""
        if self.law == "mu-law":
            mu = self.classes - 1
            v = 2 * scaled - 1
            scaled = (v.sign() * torch.log1p(mu * (v + 1e-8).abs()) / math.log1p(mu) + 1) / 2
        return torch.floor(scaled * (self.classes - 0.01) + 0.005).to(torch.int16)

    def decode_centre(self, classes: Tensor) -> Tensor:
        """Returns samples at the centre of each cell, used for writing and playing. Under the fixed range each class survives a 16-bit file
        (mu-law up to 8 bits, linear up to 12)."""
        return self._expand((classes.float() + 0.5) / (self.classes / 2) - 1)

    def cells(self) -> tuple[Tensor, Tensor]:
        """Returns, in [-1, 1] and float64, the cell centres (q,), as in `decode_centre`, and the limits between neighbouring cells
        (q - 1,), as in `encode`."""
        q = torch.arange(self.classes, dtype=torch.float64)
        limits = 2 * (q[1:] - 0.005) / (self.classes - 0.01) - 1
        return self._expand((q + 0.5) / (self.classes / 2) - 1), self._expand(limits)

    def _expand(self, y: Tensor) -> Tensor:
        if self.law == "linear":
            return y
        return y.sign() * torch.expm1(y.abs() * math.log(self.classes)) / (self.classes - 1)
