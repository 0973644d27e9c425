"""Registers functions as torch operators, which torch.compile treats as single nodes with known shapes and gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LIBRARY = torch.library.Library("harmonicrnn", "DEF")


def new(*like: Tensor) -> tuple[Tensor, ...]:
    """Returns empty tensors of the same shapes."""
    return tuple(t.new_empty(t.shape) for t in like)


def operator(fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Registers a function of tensors, numbers and strings as the operator `torch.ops.harmonicrnn.<its name>`, for all devices.

    Does not use torch.library.custom_op, whose first call takes over a second to load the compiler.

    Args:
        fake: takes the same arguments, returns empty tensors shaped as the results. Results are new tensors, never arguments.
    """

    def register(function: Callable[..., Any]) -> Any:
        name = function.__name__
        LIBRARY.define(name + torch.library.infer_schema(function, mutates_args=()), tags=(torch.Tag.pt2_compliant_tag,))
        LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        torch.library.register_fake(f"harmonicrnn::{name}", fake, lib=LIBRARY)
        return getattr(torch.ops.harmonicrnn, name).default

    return register


def differentiable(of: Any, setup: Callable[..., None], backward: Callable[..., Any]) -> None:
    """Registers an operator's gradients: `setup(ctx, inputs, output)` saves what `backward(ctx, *gradients)` needs."""
    torch.library.register_autograd(of, backward, setup_context=setup, lib=LIBRARY)
