"""Exchanges of tensors between the ranks of a context group, with gradients.

There are two exchanges: `gather`, for small tensors that all ranks need, and a shift, which gives each rank the previous rank's tensor. The
adjoint of a shift is a shift in the other direction.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Transport(Protocol):
    """Moves tensors between the ranks of a context group, without gradients. All ranks make the same calls in the same order."""

    rank: int
    size: int

    def gather(self, x: Tensor) -> Tensor:
        """Returns x of all ranks, (size, *x.shape)."""

    def shift(self, x: Tensor, step: int) -> tuple[Tensor, Callable[[], None]]:
        """Returns x of the rank `step` before this one (1, or -1 for the next rank), zeros if there is none, and a function that waits for
        it; the tensor is valid after that call."""


class _Shifted:
    """A shift in progress and its wait function, forward and then backward."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.wait: Callable[[], None] = lambda: None


# A shift starts in one function and is waited for in another, so that computation between them hides it. In the backward pass the later
# function starts it and the earlier one waits. The tensor passed between the two is not read before the wait.
class _Begin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tail: Tensor, shifted: _Shifted) -> Tensor:
        ctx.shifted = shifted
        received, shifted.wait = shifted.transport.shift(tail, 1)
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        ctx.shifted.wait()
        return grad, None


class _Finish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, received: Tensor, first: Tensor, shifted: _Shifted) -> Tensor:
        ctx.shifted = shifted
        shifted.wait()
        return (first if shifted.transport.rank == 0 else received).clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        shifted = ctx.shifted
        returned, shifted.wait = shifted.transport.shift(grad, -1)
        return returned, grad if shifted.transport.rank == 0 else torch.zeros_like(grad), None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, transport: Transport) -> Tensor:
        ctx.transport = transport
        return transport.gather(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.transport.gather(grad)[:, ctx.transport.rank].sum(dim=0), None


class ContextGroup:
    """The ranks that share the time axis of a batch; implements `harmonicrnn.ops.Slices` for the layers.

    Args:
        transport: how they exchange tensors.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport, self.rank, self.size = transport, transport.rank, transport.size

    def gather(self, x: Tensor) -> Tensor:
        """Returns x of all ranks, (size, *x.shape), without gradients."""
        return self.transport.gather(x)

    def begin_halo(self, tail: Tensor) -> Callable[[Tensor], Tensor]:
        """Starts `halo` for a slice that ends with `tail` (B, steps, D); returns a function of `first` that finishes it."""
        shifted = _Shifted(self.transport)
        received = _Begin.apply(tail, shifted)
        return lambda first: _Finish.apply(received, first, shifted)

    def halo(self, x: Tensor, first: Tensor) -> Tensor:
        """Returns the steps before the slice x (B, T, D), as many as `first` (B, steps, D) has, with gradients for both.

        On rank 0 these are `first`. Slices have the same length on all ranks. One shift, or a gather if the halo is longer than a slice.
        """
        steps = first.shape[1]
        if steps == 0:
            return first
        if x.shape[1] >= steps:
            return self.begin_halo(x[:, x.shape[1] - steps :])(first)
        slices = _Gather.apply(torch.cat([first, x], dim=1), self.transport)
        before = torch.cat([slices[0], *slices[1 : self.rank, :, steps:]], dim=1) if self.rank else slices[0, :, :steps]
        return before[:, before.shape[1] - steps :]

    def from_last(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Returns the last rank's tensors on every rank, without gradients, in one exchange."""
        whole = (tensor.detach().clone(memory_format=torch.contiguous_format) for tensor in tensors)
        sent = torch.cat([tensor.view(torch.uint8).flatten() for tensor in whole])
        parts = self.gather(sent)[-1].split([tensor.nbytes for tensor in tensors])
        return [part.clone().view(tensor.dtype).view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Copies of a model (such as averaged weights) belong to the same group.
        return self
