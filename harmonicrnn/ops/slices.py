"""The interface for sequences split along time: each rank holds one contiguous slice and exchanges states with the others.

A slice's summary is the product of its a and its last state from zero. From the summaries of all earlier slices follows the state at the
beginning of a slice; from those of the adjoint recurrence of all later slices, the gradient of its last state. The product needs no
gradient, since it underflows.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Slices(Protocol):
    """One rank's position along time, and its exchanges. All ranks make the same exchanges in the same order.

    rank: 0 for the first slice of the sequence.
    size: number of ranks along time.
    """

    rank: int
    size: int

    def gather(self, x: Tensor) -> Tensor:
        """Returns x of all ranks, (size, *x.shape), without gradients."""

    def begin_halo(self, tail: Tensor) -> Callable[[Tensor], Tensor]:
        """Starts `halo` for a slice that ends with `tail` (B, steps, D); returns a function of `first` that finishes it."""

    def halo(self, x: Tensor, first: Tensor) -> Tensor:
        """Returns the steps before the slice x (B, T, D), as many as `first` (B, steps, D) has, with gradients for both.

        `first` precedes the whole sequence: its values are used on rank 0, elsewhere only its shape.
        """

    def from_last(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Returns the last rank's tensors on every rank, without gradients, in one exchange."""


def fold(start: Tensor, products: Iterable[Tensor], lasts: Iterable[Tensor]) -> Tensor:
    """Returns the state (B, N) after some slices, from the state before them and their summaries."""
    for product, last in zip(products, lasts, strict=True):
        start = product * start + last
    return start


def state_before(slices: Slices, product: Tensor, last: Tensor, h0: Tensor) -> Tensor:
    """Returns the state (B, N) at the beginning of this rank's slice, with one exchange.

    product and last are the slice's summary; rank 0's last starts from h0, the state before the sequence, the others' from zero.
    """
    products, lasts = slices.gather(torch.stack([product, last])).unbind(1)
    return fold(lasts[0], products[1 : slices.rank], lasts[1 : slices.rank]) if slices.rank else h0


def gradient_after(slices: Slices, product: Tensor, carry: Tensor, grad_last: Tensor) -> Tensor:
    """Returns the gradient (B, N) of this slice's last state, including that from later slices, with one exchange.

    product is the slice's, carry the gradient of the state before it, grad_last the gradient of its last state from elsewhere.
    """
    products, carries = slices.gather(torch.stack([product.conj(), carry]))[slices.rank + 1 :].flip(0).unbind(1)
    return grad_last + fold(torch.zeros_like(grad_last), products, carries)
