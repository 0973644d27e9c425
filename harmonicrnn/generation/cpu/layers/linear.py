"""Linear layers and other matrix products as steps of the CPU engine."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harmonicrnn.generation.cpu.addresses import Place, address, padded
from harmonicrnn.generation.cpu.llvm import PANEL
from harmonicrnn.generation.cpu.operation import Operation, Share
from harmonicrnn.generation.cpu.products import FULL, PRODUCT, product, product_in_fewer_bits

ALL = slice(None)


class ProductStep(Operation):
    """target = bias + source matrix, in whole panels.

    Args:
        share: the worker's share.
        matrices: (groups, inputs, outputs), rounded (see `Products.round`).
        biases: (groups, outputs), or None for zeros.
        source, target: inputs and outputs; groups are `steps` (of inputs, of outputs) apart.
        own: the inputs present in `source`; the sum runs over these only.
    """

    layout = PRODUCT

    def __init__(
        self,
        share: Share,
        matrices: Tensor,
        biases: Tensor | None,
        source: Place,
        target: Place,
        own: Tensor | slice = ALL,
        steps: tuple[int, int] = (0, 0),
    ) -> None:
        groups, whole, outputs = matrices.shape
        inputs, code = len(torch.arange(whole)[own]), share.products.code(whole)
        self.step = product if code == FULL else product_in_fewer_bits
        self.numbers = [share.products.add(m, None if biases is None else biases[g], own) for g, m in enumerate(matrices)]
        super().__init__(
            share, groups=groups, inputs=inputs, panels=padded(outputs) // PANEL, stored=code,
            source=source, source_step=steps[0], target=target, target_step=steps[1],
        )  # fmt: skip
        source.room.need(source.start + (groups - 1) * steps[0] + inputs)
        target.room.need(target.start + (groups - 1) * steps[1] + padded(outputs))

    def begin(self, lanes: int) -> None:
        super().begin(lanes)
        self._table = np.array([self.share.products.addresses(number) for number in self.numbers], dtype=np.int64)
        self.record["table"] = address(self._table)


def matrix(share: Share, layer: nn.Linear) -> Tensor:
    """Returns a layer's weights (1, inputs, outputs), rounded in place."""
    weights = layer.weight.detach().T
    share.products.round(weights)
    return weights[None]


def side_by_side(first: nn.Linear, its: Tensor, second: nn.Linear, others: Tensor, share: Share) -> tuple[Tensor, Tensor, int]:
    """Joins the outputs `its` of the first layer and `others` of the second, which has the same inputs: one matrix (1, inputs, outputs),
    one bias, and the panel-aligned offset of the second's outputs."""
    gap = padded(len(its)) - len(its)
    weights = torch.cat([pad(matrix(share, first)[..., its], (0, gap)), matrix(share, second)[..., others]], dim=-1)
    bias = torch.cat([pad(first.bias.detach()[its], (0, gap)), second.bias.detach()[others]])
    return weights, bias[None], padded(len(its))
