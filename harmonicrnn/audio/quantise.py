"""From samples to classes and back, as in the protocol of the published tables (the S4/SaShiMi repository), in float32.

Two steps: scaling maps a clip to s in [0, 1], a quantiser maps s to one of q = 2^bits classes. Silence is class q / 2.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Law = Literal["mu-law", "linear"]
Scaling = Literal["clip", "file", "peak", "none"]
"""What is brought to the full range: the extremes of a clip or of its file, the file's largest absolute sample, or nothing."""
OF_WHOLE_FILES: tuple[Scaling, ...] = ("file", "peak")
Span = tuple[float, float] | float | None
EPSILON = 1e-6


def extremes(samples: Tensor) -> tuple[float, float]:
    """The lowest and the highest sample; (0, 0) of none."""
    if not samples.numel():
        return 0.0, 0.0
    low, high = torch.aminmax(samples)
    return low.item(), high.item()


def span_of(scaling: Scaling, low: float, high: float) -> Span:
    """What `scale` takes of a clip or file with these extremes."""
    if scaling == "none":
        return None
    return max(-low, high) or 1.0 if scaling == "peak" else (low, high)


def scale(samples: Tensor, span: Span) -> Tensor:
    """s in [0, 1] from samples (any shape, float32).

    Args:
        samples: audio.
        span: the extremes (min, max) of the clip or file that s refers to: s = (x - min) / (max - min + 1e-6). Or the peak p, the end of
            the fixed range [-p, p] to which samples are clamped: s = (x / p + 1) / 2, so that silence stays silence; None is a peak of 1.
    """
    if span is None or isinstance(span, float):
        return ((samples / (span or 1.0)).clamp(-1, 1) + 1) / 2
    low, high = torch.tensor(span, dtype=samples.dtype)
    return (samples - low) / (high - low + EPSILON)


@dataclass(frozen=True)
class Quantiser:
    """Classes from scaled samples, and samples in [-1, 1] from classes.

    With mu = q - 1:
        linear: class = floor(s (q - 0.01) + 0.005)
        mu-law: v = 2s - 1, e = sign(v) log1p(mu |v + 1e-8|) / log1p(mu), class = floor((e + 1)/2 (q - 0.01) + 0.005)
    """

    bits: int = 8
    law: Law = "mu-law"

    @property
    def classes(self) -> int:
        """q."""
        return 2**self.bits

    @property
    def zero_level(self) -> int:
        """The class of silence."""
        return self.classes // 2

    def encode(self, scaled: Tensor) -> Tensor:
        """Classes (int16, same shape) of s in [0, 1]."""
        if self.law == "mu-law":
            mu = self.classes - 1
            v = 2 * scaled - 1
            scaled = (v.sign() * torch.log1p(mu * (v + 1e-8).abs()) / math.log1p(mu) + 1) / 2
        return torch.floor(scaled * (self.classes - 0.01) + 0.005).to(torch.int16)

    def decode(self, classes: Tensor) -> Tensor:
        """Samples at the lower edge of each class's cell, as in the tables; half the classes come back one lower when encoded again."""
        return self._expand(2 * classes.float() / self.classes - 1)

    def decode_centre(self, classes: Tensor) -> Tensor:
        """Samples at the centre of each class's cell: what is written and played. Under the fixed range each class survives a 16-bit file
        (mu-law up to 8 bits, linear up to 12)."""
        return self._expand((classes.float() + 0.5) / (self.classes / 2) - 1)

    def cells(self) -> tuple[Tensor, Tensor]:
        """Samples in [-1, 1], float64: the centres of the classes' cells (q,), as `decode_centre` gives them, and the limits between
        neighbouring cells (q - 1,), as `encode` has them."""
        q = torch.arange(self.classes, dtype=torch.float64)
        limits = 2 * (q[1:] - 0.005) / (self.classes - 0.01) - 1
        return self._expand((q + 0.5) / (self.classes / 2) - 1), self._expand(limits)

    def _expand(self, y: Tensor) -> Tensor:
        if self.law == "linear":
            return y
        return y.sign() * torch.expm1(y.abs() * math.log(self.classes)) / (self.classes - 1)
