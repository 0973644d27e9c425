"""Operators of torch: what torch.compile takes as one piece, of which it knows the shapes of the results and the gradients."""

from collections.abc import Callable
from typing import Any

import torch

LIBRARY = torch.library.Library("harmonicrnn", "DEF")


def operator(fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Makes a function of tensors, numbers and strings the operator `torch.ops.harmonicrnn.<its name>`, of all devices.

    Not by torch.library.custom_op, whose first call takes over a second to load the compiler.

    Args:
        fake: of the same arguments, empty tensors as the results. Results are new tensors, never arguments.
    """

    def register(function: Callable[..., Any]) -> Any:
        name = function.__name__
        LIBRARY.define(name + torch.library.infer_schema(function, mutates_args=()), tags=(torch.Tag.pt2_compliant_tag,))
        LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        torch.library.register_fake(f"harmonicrnn::{name}", fake, lib=LIBRARY)
        return getattr(torch.ops.harmonicrnn, name).default

    return register


def differentiable(of: Any, setup: Callable[..., None], backward: Callable[..., Any]) -> None:
    """Gives an operator gradients: `setup(ctx, inputs, output)` keeps what `backward(ctx, *gradients)` needs."""
    torch.library.register_autograd(of, backward, setup_context=setup, lib=LIBRARY)
