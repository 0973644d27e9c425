"""The one place that chooses how the recurrence is computed."""

import warnings
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Literal, get_args

import torch

from harmonicrnn.ops.scan_functions import Kernels

Implementation = Literal["auto", "reference", "cpu", "triton"]
"""reference: ordinary tensor operations, on any device; cpu: compiled by numba; triton: fused kernels on a CUDA device."""


@dataclass(frozen=True)
class Choice:
    """An implementation's name, which is not "auto", and why it is the one."""

    name: Implementation
    reason: str


def choose(implementation: Implementation, device: torch.device) -> Choice:
    """The implementation for tensors of a device; where "auto" has to fall back to the slow one it warns.

    Raises:
        ValueError: an unknown one, or a forced one that is not available there, with the reason.
    """
    if implementation not in get_args(Implementation):
        raise ValueError(f"scan must be one of {', '.join(get_args(Implementation))}, got {implementation}")
    if implementation != "auto":
        missing = why_not(implementation, device.type)
        if missing:
            raise ValueError(f"scan: {implementation} is not available: {missing}; set scan to auto")
        return Choice(implementation, "as set")
    own: Implementation | None = {"cpu": "cpu", "cuda": "triton"}.get(device.type)  # type: ignore[assignment]
    if own is None:
        # A meta tensor computes nothing.
        missing = f"no kernels are made for {device.type}"
        return Choice("reference", missing) if device.type == "meta" else _fall_back(missing)
    missing = why_not(own, device.type)
    return _fall_back(missing) if missing else Choice(own, f"the tensors are on {device.type}")


def why_not(implementation: Implementation, device: str) -> str | None:
    """Why an implementation cannot compute on a type of device; None where it can."""
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


def kernels_of(name: Implementation) -> Kernels:
    """The functions of an implementation."""
    # Imported here, so that compilers are loaded only where they compute.
    if name == "cpu":
        from harmonicrnn.ops.cpu import CPU

        return CPU
    if name == "triton":
        from harmonicrnn.ops.triton.plain_scan import TRITON

        return TRITON
    from harmonicrnn.ops.doubling import DOUBLING

    return DOUBLING


@cache
def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return find_spec(package) is not None


def _fall_back(missing: str) -> Choice:
    warnings.warn(f"the recurrence is computed by ordinary tensor operations, many times slower: {missing}", stacklevel=2)
    return Choice("reference", missing)
