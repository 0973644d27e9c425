"""Locates the first parameter or layer with values that are not finite."""

from typing import Any

import torch
from torch import Tensor, nn

from harmonicrnn.models import undivided


@torch.no_grad()
def first_non_finite(net: nn.Module, classes: Tensor) -> str:
    """Return the name of the first parameter, or else of the first layer output in forward order, that is not finite."""
    for name, parameter in net.named_parameters():
        if not parameter.isfinite().all():
            return f"parameter {name}"
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) else output
            if not found and not value.isfinite().all():
                found.append(f"layer {name}")

        return hook

    # Hooks of inner layers run before those of their parents, so the first one found is the innermost.
    handles = [layer.register_forward_hook(watch(name)) for name, layer in net.named_modules() if name]
    try:
        with undivided(net):
            net(classes)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "the loss itself"
