"""What a layer remembers between two calls."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """Base of all states: a frozen record of tensors with lanes first, of inner states, and of tuples of them.

    A layer given no state (None) starts all its lanes fresh. Each state has a flag `fresh` (B,), true until the lane's first step: a zeroed
    state is not a fresh one, as the recurrence treats its first step in a way of its own.
    """

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same state with `function` applied to each of its tensors."""
        return replace(self, **{f.name: _map(getattr(self, f.name), function) for f in fields(self)})

    def detach(self) -> Self:
        """The same values, cut off from the graph that computed them."""
        return self.map(torch.Tensor.detach)

    def reset(self, lanes: Tensor) -> Self:
        """Make the marked lanes fresh again.

        Args:
            lanes: (B,) bool.

        Raises:
            ValueError: some but not all lanes are to be reset in the middle of a pooling window, which all lanes share.
        """
        return replace(self, **{f.name: self._reset_field(f.name, lanes) for f in fields(self)})

    def _reset_field(self, name: str, lanes: Tensor) -> Any:
        value = getattr(self, name)
        return value | lanes if name == "fresh" else _reset(value, lanes)


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, State):
        return value.map(function)
    if isinstance(value, tuple):
        return tuple(_map(item, function) for item in value)
    return value


def _reset(value: Any, lanes: Tensor) -> Any:
    if isinstance(value, Tensor):
        return torch.where(lanes.view(-1, *[1] * (value.dim() - 1)), torch.zeros_like(value), value)
    if isinstance(value, State):
        return value.reset(lanes)
    if isinstance(value, tuple):
        return tuple(_reset(item, lanes) for item in value)
    return value


def all_fresh(x: Tensor) -> Tensor:
    """The flag `fresh` of lanes that have not begun, (B,) on the device of x (B, ...)."""
    return torch.ones(x.shape[0], dtype=torch.bool, device=x.device)


def after(fresh: Tensor, x: Tensor) -> Tensor:
    """The flag `fresh` after the steps of x (B, T, ...)."""
    return torch.zeros_like(fresh) if x.shape[1] else fresh


def state_dtype(x: Tensor) -> torch.dtype:
    """States are float32 whatever the activations are, or float64 with float64 activations."""
    return torch.promote_types(x.dtype, torch.float32)
