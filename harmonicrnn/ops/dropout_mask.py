"""Dropout with masks that are hashes of position, channel and key, instead of random numbers.

Chunks, ranks and recomputations get the mask of the whole sequence, and no mask is kept for the backward pass. The hash is the finaliser
of MurmurHash3 (Appleby, public domain), 32 bits for two channels, d and d + ceil(D / 2).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harmonicrnn.ops.implementation import installed
from harmonicrnn.ops.operators import operator

WORD = 0xFFFFFFFF
FIRST, SECOND, GOLDEN = 0x85EBCA6B, 0xC2B2AE35, 0x9E3779B9
HALF_WORD = 1 << 16


def dropout(x: Tensor, rate: float, key: Tensor, lanes: Tensor, positions: Tensor) -> Tensor:
    """Sets a fraction of the elements of x to 0 and divides the others by the fraction kept.

    Args:
        x: (B, T, D).
        rate: fraction dropped, in [0, 1), in steps of 2^-16; at most 1 - 2^-16.
        key: (2,) int64, two 32-bit words that select the mask (of seed, step and layer, for example), from `key_words`; a tensor, so that
            torch.compile does not recompile for each key.
        lanes: (B,) int64, the content of each lane (a clip's index, for example).
        positions: (B,) int64, position in that content of the first of the T steps, at least 0.

    Returns:
        (B, T, D) in the dtype of x.
    """
    y: Tensor = _Dropout.apply(x, min(round(rate * HALF_WORD), HALF_WORD - 1), key, lanes, positions)
    return y


def combined_key(*parts: int) -> int:
    """Hashes integers of any size to 64 bits."""
    found = [0, 1]
    for part in parts:
        while True:
            found = [_mixed(h ^ ((part & WORD) * GOLDEN + i & WORD)) for i, h in enumerate(found)]
            part >>= 32
            if part in (0, -1):
                break
    return found[0] << 32 | found[1]


def key_words(keys: Iterable[int], device: torch.device | None = None) -> Tensor:
    """Returns (keys, 2) int64, the high and the low 32 bits of each key."""
    return torch.tensor([(key >> 32 & WORD, key & WORD) for key in keys], dtype=torch.int64).view(-1, 2).to(device)


def _mixed(h: Any) -> Any:
    """The finaliser, for a Python int or an int64 tensor of 32-bit words; low words of products are exact despite overflow."""
    h = h ^ (h >> 16)
    h = h * FIRST & WORD
    h = h ^ (h >> 13)
    h = h * SECOND & WORD
    return h ^ (h >> 16)


@operator(fake=lambda x, dropped, key, lanes, positions: x.new_empty(x.shape))
def masked_by_numba(x: Tensor, dropped: int, key: Tensor, lanes: Tensor, positions: Tensor) -> Tensor:
    """As `_masked`, for float32 or float64 on the CPU."""
    from harmonicrnn.ops.cpu import masked  # here, so that the compiler is loaded only when used

    y, (high, low) = x.new_empty(x.shape), key.tolist()
    given = x.detach().contiguous().numpy(), np.uint32(high), np.uint32(low), lanes.numpy(), positions.numpy(), np.uint32(dropped)
    masked(*given, HALF_WORD / (HALF_WORD - dropped), y.numpy())
    return y


def _by_numba(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cpu" and dtype in (torch.float32, torch.float64) and installed("numba")


_by_numba._dynamo_marked_constant = True  # type: ignore[attr-defined] # as in harmonicrnn/ops/implementation.py


def _masked(x: Tensor, dropped: int, key: Tensor, lanes: Tensor, positions: Tensor) -> Tensor:
    if _by_numba(x.device, x.dtype):
        y: Tensor = masked_by_numba(x, dropped, key, lanes, positions)
        return y
    high, low = key.unbind()
    lane = _mixed(_mixed(lanes & WORD ^ high) ^ (lanes >> 32 & WORD))[:, None]
    step = positions[:, None] + torch.arange(x.shape[1], device=x.device)
    rows = _mixed(_mixed(step & WORD ^ low) ^ _mixed(step >> 32 & WORD ^ lane))
    half = (x.shape[2] + 1) // 2
    hashed = _mixed(rows[..., None] + torch.arange(half, device=x.device) * GOLDEN & WORD)
    kept = torch.cat([hashed & HALF_WORD - 1, hashed >> 16], dim=-1)[..., : x.shape[2]] >= dropped
    return torch.where(kept, x * (HALF_WORD / (HALF_WORD - dropped)), 0)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int, key: Tensor, lanes: Tensor, positions: Tensor) -> Tensor:
        ctx.dropped = dropped
        ctx.save_for_backward(key, lanes, positions)
        return _masked(x, dropped, key, lanes, positions)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _masked(grad, ctx.dropped, *ctx.saved_tensors), None, None, None, None
