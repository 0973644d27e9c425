"""Chooses the implementation of the recurrence for a device."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from harmonicrnn.ops.first_use import why_not_trusted

Implementation = Literal["auto", "reference", "cpu", "triton"]
"""reference: ordinary tensor operations, on any device; cpu: compiled by numba; triton: fused kernels on a CUDA device."""


_compiles = ContextVar("compiles", default=True)


@contextmanager
def without_compiling() -> Iterator[None]:
    """Inside the context, scans of implementation "auto" and the mixture use ordinary tensor operations on the CPU: numba compiles nothing
    for them."""
    token = _compiles.set(False)
    try:
        yield
    finally:
        _compiles.reset(token)


def compiles_for(device: torch.device) -> bool:
    """Returns whether functions compiled by numba are used: on the CPU, where numba is installed, outside of `without_compiling`."""
    return device.type == "cpu" and installed("numba") and _compiles.get()


class Kernels(Protocol):
    """One implementation of the recurrence: a module with these functions. a, x, h, grad_h are contiguous (B, T, N) with T > 0, states
    (B, N), all of one dtype. Triton also takes 16-bit a, x, h, grad_h, complex ones as (B, T, N, 2), with float32 or complex64 states."""

    def forward(self, a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        """Returns h and the last state."""

    def backward(self, a: Tensor, h: Tensor, h0: Tensor, grad_h: Tensor, grad_last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the gradients of a, x and h0."""

    def summary(self, a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        """Returns prod_t a_t, and the last state from h0."""

    def adjoint_summary(self, a: Tensor, grad_h: Tensor, grad_last: Tensor) -> Tensor:
        """Returns the gradient of h0."""


@dataclass(frozen=True)
class Choice:
    """An implementation's name (not "auto"), and the reason for the choice."""

    name: Implementation
    reason: str


def choose(implementation: Implementation, device: torch.device) -> Choice:
    """Returns the implementation for tensors on a device. Falls back to the slow one with a warning if "auto" finds no other, or if
    Triton's kernels fail or give other results on their first use on the device.

    Raises:
        ValueError: an unknown implementation, or one that is not available there, with the reason.
    """
    if implementation not in get_args(Implementation):
        raise ValueError(f"scan must be one of {', '.join(get_args(Implementation))}, got {implementation}")
    if implementation != "auto":
        missing = why_not(implementation, device.type)
        if missing:
            raise ValueError(f"scan: {implementation} is not available: {missing}; set scan to auto")
        return _trusted(Choice(implementation, "as set"), device)
    if device.type == "cpu" and not _compiles.get():
        return Choice("reference", "nothing is compiled here")
    own: Implementation | None = {"cpu": "cpu", "cuda": "triton"}.get(device.type)  # type: ignore[assignment]
    if own is None:
        # A meta tensor computes nothing.
        missing = f"no kernels are made for {device.type}"
        return Choice("reference", missing) if device.type == "meta" else _fall_back(missing)
    missing = why_not(own, device.type)
    return _fall_back(missing) if missing else _trusted(Choice(own, f"the tensors are on {device.type}"), device)


choose._dynamo_marked_constant = True  # type: ignore[attr-defined]
# The effect of torch.compiler.assume_constant_result, which takes over a second to import: choices are made while tracing.


def why_not(implementation: Implementation, device: str) -> str | None:
    """Returns why an implementation cannot run on a type of device; None if it can."""
    if implementation == "triton":
        if not installed("triton"):
            return "the package triton is not installed (it is made for Linux alone)"
        from triton import knobs

        if device != "cuda" and not knobs.runtime.interpret:
            return f"it needs a CUDA device, and the tensors are on {device}"
    if implementation == "cpu":
        if device != "cpu":
            return f"it needs tensors on the CPU, and they are on {device}"
        if not installed("numba"):
            return "the package numba is not installed"
    return None


def kernels_of(name: str) -> Kernels:
    """Returns the module of an implementation."""
    # Imported here, so that compilers are loaded only when used.
    if name == "cpu":
        from harmonicrnn.ops import cpu

        return cpu
    if name == "triton":
        from harmonicrnn.ops.triton import plain_scan

        return plain_scan
    from harmonicrnn.ops import doubling

    return doubling


@cache
def installed(package: str) -> bool:
    """Returns whether a package can be imported."""
    return find_spec(package) is not None


def _trusted(choice: Choice, device: torch.device) -> Choice:
    why = why_not_trusted(device) if choice.name == "triton" else None
    return choice if why is None else Choice("reference", why)


def _fall_back(missing: str) -> Choice:
    warnings.warn(f"the recurrence is computed by ordinary tensor operations, many times slower: {missing}", stacklevel=2)
    return Choice("reference", missing)
