"""What lies between the products of a step, each a function that becomes one kernel where it is compiled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-6


def add_and_normalise(x: Tensor, part: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """x + part + bias, and that divided by its root mean square."""
    x = x + part + bias
    return x, F.rms_norm(x, x.shape[-1:], eps=EPSILON)


def convolve(newest: Tensor, before: Sequence[Tensor], kernel: Tensor, bias: Tensor) -> Tensor:
    """One step (B, D) of the causal convolution with the steps `before`, oldest first."""
    y = torch.addcmul(bias, newest, kernel[-1])
    for k, x in enumerate(before):
        y = torch.addcmul(y, x, kernel[k])
    return y


def recur(z: Tensor, gates: Tensor, rates: Tensor, phase: Tensor | None, h: Tensor, fresh: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    """One step of `harmonicrnn.ops.cg_lru`: the state h (B, D), and h GELU(gate).

    z (B, D) is the input, gates (B, 2N) are those of the recurrence and of the input before the sigmoid, rates (N,) log|a| at an open gate.
    """
    r, i = torch.sigmoid(gates).chunk(2, dim=-1)
    log_modulus = r * rates
    factor = torch.where(fresh[:, None], torch.ones_like(log_modulus), torch.sqrt(-torch.expm1(2 * log_modulus)))
    modulus, gated = log_modulus.exp(), factor * i
    if phase is None:
        h = modulus * h + gated * z
    else:
        real, imaginary = modulus * torch.cos(r * phase), modulus * torch.sin(r * phase)
        (h_real, h_imaginary), (z_real, z_imaginary) = h.chunk(2, dim=-1), z.chunk(2, dim=-1)
        halves = (
            real * h_real - imaginary * h_imaginary + gated * z_real,
            real * h_imaginary + imaginary * h_real + gated * z_imaginary,
        )
        h = torch.cat(halves, dim=-1)
    return h, h * F.gelu(gate, approximate="tanh")


def gate(both: Tensor) -> Tensor:
    """GELU of the first half times the second."""
    first, second = both.chunk(2, dim=-1)
    return F.gelu(first, approximate="tanh") * second


@dataclass(frozen=True)
class Fused:
    """The functions above, compiled on a GPU, as they are elsewhere."""

    add_and_normalise: Callable[..., Any]
    convolve: Callable[..., Any]
    recur: Callable[..., Any]
    gate: Callable[..., Any]

    @classmethod
    def on(cls, device: torch.device) -> "Fused":
        functions = (add_and_normalise, convolve, recur, gate)
        return cls(*(map(torch.compile, functions) if device.type == "cuda" else functions))
