"""Dropout whose mask is a function of where a number stands, and of nothing else: counters are hashed instead of drawing random numbers.

Whoever computes a piece of a sequence (a chunk, a rank, a recomputation) finds the mask that the whole has there, and nothing is kept for
the backward pass. The hash is the finaliser of MurmurHash3 (Appleby, public domain), 32 bits for two channels, d and d + ceil(D / 2).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harmonicrnn.ops.implementation import installed

WORD = 0xFFFFFFFF
FIRST, SECOND, GOLDEN = 0x85EBCA6B, 0xC2B2AE35, 0x9E3779B9
HALF_WORD = 1 << 16


def dropout(x: Tensor, rate: float, key: int, lanes: Tensor, positions: Tensor) -> Tensor:
    """x with a share of its numbers set to 0 and the others divided by the share that is kept.

    Args:
        x: (B, T, D).
        rate: share of numbers that are dropped, in [0, 1), in steps of 2^-16.
        key: 64 bits that tell masks apart (of seed, step and layer, say).
        lanes: (B,) int64, what each lane holds (a clip's number, say).
        positions: (B,) int64, where in it the first of the T steps stands, at least 0.

    Returns:
        (B, T, D) in the dtype of x.
    """
    y: Tensor = _Dropout.apply(x, round(rate * HALF_WORD), key, lanes, positions)
    return y


def combined_key(*parts: int) -> int:
    """64 bits from whole numbers of any size, each of which counts."""
    found = [0, 1]
    for part in parts:
        while True:
            found = [_mixed(h ^ ((part & WORD) * GOLDEN + i & WORD)) for i, h in enumerate(found)]
            part >>= 32
            if part in (0, -1):
                break
    return found[0] << 32 | found[1]


def _mixed(h: Any) -> Any:
    """The finaliser, of a Python number or an int64 tensor of 32-bit words: a product's low word is right even where it overflows."""
    h = h ^ (h >> 16)
    h = h * FIRST & WORD
    h = h ^ (h >> 13)
    h = h * SECOND & WORD
    return h ^ (h >> 16)


def _row_words(key: int, lanes: Tensor, positions: Tensor, time: int) -> Tensor:
    """A word for each step, (B, T) int64."""
    high, low = key >> 32 & WORD, key & WORD
    lane = _mixed(_mixed(lanes & WORD ^ high) ^ (lanes >> 32 & WORD))[:, None]
    step = positions[:, None] + torch.arange(time, device=positions.device)
    return _mixed(_mixed(step & WORD ^ low) ^ _mixed(step >> 32 & WORD ^ lane))


def _masked(x: Tensor, dropped: int, key: int, lanes: Tensor, positions: Tensor) -> Tensor:
    rows, channels = _row_words(key, lanes, positions, x.shape[1]), x.shape[2]
    scale = HALF_WORD / (HALF_WORD - dropped)
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and installed("numba"):
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        words = rows.numpy().astype(np.uint32).reshape(-1)
        _kernel()(x.detach().contiguous().view(-1, channels).numpy(), words, np.uint32(dropped), scale, y.view(-1, channels).numpy())
        return y
    half = (channels + 1) // 2
    words = _mixed(rows[..., None] + torch.arange(half, device=x.device) * GOLDEN & WORD)
    kept = torch.cat([words & HALF_WORD - 1, words >> 16], dim=-1)[..., :channels] >= dropped
    return torch.where(kept, x * scale, 0)


_compiled: list[Any] = []


def _kernel() -> Any:
    """The mask on the CPU as vector code, made at first use."""
    if not _compiled:
        import numba  # here, so that the compiler is loaded only where it computes

        @numba.njit(nogil=True, error_model="numpy")
        def masked(x: Any, rows: Any, dropped: Any, scale: Any, y: Any) -> None:
            channels = x.shape[1]
            half = (channels + 1) // 2
            first, second, golden = np.uint32(FIRST), np.uint32(SECOND), np.uint32(GOLDEN)
            factor, zero = x.dtype.type(scale), x.dtype.type(0)
            words = np.empty(half, np.uint32)
            for i in range(len(rows)):
                for d in range(half):
                    h = np.uint32(rows[i] + np.uint32(d) * golden)
                    h ^= h >> np.uint32(16)
                    h = np.uint32(h * first)
                    h ^= h >> np.uint32(13)
                    h = np.uint32(h * second)
                    words[d] = h ^ (h >> np.uint32(16))
                for d in range(half):
                    y[i, d] = x[i, d] * factor if (words[d] & np.uint32(0xFFFF)) >= dropped else zero
                for d in range(half, channels):
                    y[i, d] = x[i, d] * factor if (words[d - half] >> np.uint32(16)) >= dropped else zero

        _compiled.append(masked)
    return _compiled[0]


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int, key: int, lanes: Tensor, positions: Tensor) -> Tensor:
        ctx.place = dropped, key
        ctx.save_for_backward(lanes, positions)
        return _masked(x, dropped, key, lanes, positions)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _masked(grad, *ctx.place, *ctx.saved_tensors), None, None, None, None
