"""Finds layers that mix time without support for slices, whose results would be silently wrong."""

from collections import defaultdict
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from harmonicrnn.errors import UserError
from harmonicrnn.models import AutoregressiveNet, DownPool, MixesTime, UpPool, set_slices
from harmonicrnn.models.block import LayerNorm, RMSNorm
from harmonicrnn.models.embedding import ClassEmbedding
from harmonicrnn.parallel.transports import simulated_groups

POINT_WISE = (nn.Linear, nn.Embedding, nn.Identity, nn.Dropout, nn.GELU, nn.SiLU, nn.ReLU, nn.Sigmoid, nn.Tanh)
POINT_WISE_HERE = (LayerNorm, RMSNorm, ClassEmbedding, DownPool, UpPool)  # pooling mixes only inside windows, which slices do not split
TOLERANCE = 1e-9
LEAST = 16  # samples in a tested slice


def check_knows_slices(net: AutoregressiveNet) -> None:
    """Raises if a layer of a model mixes time without support for slices.

    Every leaf layer must be a `MixesTime`, a known point-wise layer, or have the attribute `point_wise_in_time = True`. Mixing outside of
    layers (such as a cumulative sum) is found by running the model in float64 over some pooling windows, whole and in two simulated
    slices.

    Raises:
        UserError: names the layer.
    """
    for name, layer in net.named_modules():
        known = type(layer) in POINT_WISE or isinstance(layer, (MixesTime, *POINT_WISE_HERE)) or getattr(layer, "point_wise_in_time", False)
        if not known and next(layer.children(), None) is None:
            raise UserError(
                f"{name} ({type(layer).__name__}) may mix time, and does not know that waveforms are split over ranks: derive it from "
                "harmonicrnn.models.MixesTime, or, if each of its steps depends on that step alone, set its attribute point_wise_in_time "
                "= True"
            )
    different = first_difference(deepcopy(net).double().cpu().eval())
    if different is not None:
        raise UserError(
            f"{different or 'the model'} mixes time without knowing that waveforms are split over ranks: its output on two slices differs "
            "from that on the whole; derive it from models.MixesTime, or train without trainer.strategy context_parallel"
        )


@torch.no_grad()
def first_difference(net: AutoregressiveNet) -> str | None:
    """Returns the first layer to finish with different outputs on two slices and on the whole ("" for the model), or None."""
    windows = -(-LEAST // net.pooling_product)
    classes = torch.randint(net.classes, (1, 2 * windows * net.pooling_product), generator=torch.Generator().manual_seed(0))
    halves = classes.chunk(2, dim=1)
    outputs: dict[str, list[Tensor]] = defaultdict(list)

    def watch(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            while isinstance(output, tuple):
                output = output[0]
            outputs[name].append(output)

        return hook

    for name, layer in net.named_modules():
        layer.register_forward_hook(watch(name))
        if hasattr(layer, "scan"):
            layer.scan = "auto"  # a forced implementation may not exist on the CPU
    set_slices(net, None)
    net(classes)
    whole, before = {name: list(values) for name, values in outputs.items()}, None
    outputs.clear()
    for group, half in zip(simulated_groups(2), halves, strict=True):
        set_slices(net, group)
        net(half, None, before)
        before = half[:, -1]
    for name, values in whole.items():  # in order of completion, inner ones first
        parts = torch.cat(outputs[name], dim=1) if values[0].dim() > 1 else values[0]
        # Outputs without a time axis, such as tables, are not compared.
        if len(values) == 1 and parts.shape == values[0].shape and not _close(parts, values[0]):
            return name
    return None


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= TOLERANCE * b.abs().max().clamp(min=1e-300))
