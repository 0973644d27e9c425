"""State, the base class of the states that layers carry between calls."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """Base class of all states: a frozen record of tensors with lanes first, inner states, and tuples of them.

    A layer without a state (None) starts with fresh lanes. Each state has a flag `fresh` (B,), true until the lane's first step: a zero
    state is not fresh, since the recurrence treats its first step specially.
    """

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Returns the state with `function` applied to each of its tensors."""
        return replace(self, **{f.name: _map(getattr(self, f.name), function) for f in fields(self)})

    def tensors(self) -> list[Tensor]:
        """Returns its tensors in order."""
        found: list[Tensor] = []
        self.map(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
        return found

    def detach(self) -> Self:
        """Returns the state detached from the graph."""
        return self.map(torch.Tensor.detach)

    def reset(self, lanes: Tensor) -> Self:
        """Returns the state with the marked lanes fresh.

        Args:
            lanes: (B,) bool.

        Raises:
            ValueError: some but not all lanes would be reset inside a pooling window, which all lanes share.
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
    """Returns `fresh` of lanes that have not begun, (B,) on the device of x (B, ...)."""
    return torch.ones(x.shape[0], dtype=torch.bool, device=x.device)


def after(fresh: Tensor, x: Tensor) -> Tensor:
    """Returns `fresh` after the steps of x (B, T, ...)."""
    return torch.zeros_like(fresh) if x.shape[1] else fresh


def state_dtype(x: Tensor) -> torch.dtype:
    """Returns the dtype of states: float64 for float64 activations, else float32."""
    return torch.promote_types(x.dtype, torch.float32)
