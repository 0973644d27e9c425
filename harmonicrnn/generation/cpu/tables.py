"""From a model to the tables of `layers`: one worker's share of every layer, without states and room to work in."""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harmonicrnn.generation.cpu import layers as columns
from harmonicrnn.generation.cpu.packed_weights import ALL, PANEL, Products, Stored, address, aligned, padded, share
from harmonicrnn.models import GatedRecurrence, HarmonicRNN, ResidualBlock, SkipBlock
from harmonicrnn.models.block import LayerNorm, RMSNorm, Stack, TemporalMixer
from harmonicrnn.ops.cg_lru import C


@dataclass
class Tables:
    """What one of `ranks` workers that share each layer reads: with one, everything.

    rank, ranks: the worker's place among those that share each layer.
    operations: (operations, COLUMNS) int64, see `layers`; the addresses of states and room are still to be filled in.
    products: (products, 5) int64.
    room: numbers of room that a lane needs in each buffer of a worker.
    head: the number of the product for the logits, of which `logits` are this worker's.
    rows: the channels that the convolution of each block, by its operation, is computed for.
    """

    rank: int
    ranks: int
    operations: np.ndarray
    products: np.ndarray
    room: int
    head: int
    logits: slice
    embedding: np.ndarray
    weights: Products
    centred: bool
    unit_first_step: bool
    rows: dict[int, Tensor]
    kept: list[np.ndarray] = field(repr=False)


def tables(net: HarmonicRNN, dtype: np.dtype, stored: Stored, rank: int, ranks: int) -> Tables:
    """The tables of a model on the CPU, with the weights in `dtype` or fewer bits."""
    builder = _Builder(dtype, stored, rank, ranks)
    builder.level(net.levels, 0)
    logits = share(net.classes, rank, ranks, PANEL)
    weight, bias = _normed(net.head, net.head_norm)
    head = builder.product(weight[:, logits], bias[logits])
    embedding = net.embedding(torch.arange(net.classes)).detach().numpy().astype(dtype)
    operations = np.array(builder.rows, dtype=np.int64)
    products, parts = builder.weights.lay_out(), net.parts
    return Tables(
        rank, ranks, operations, products, builder.room, head, logits, embedding, builder.weights, parts.norm == "layer",
        parts.unit_first_step, builder.channels, builder.kept,
    )  # fmt: skip


def _normed(layer: torch.nn.Linear, norm: LayerNorm | RMSNorm) -> tuple[Tensor, Tensor]:
    """The matrix (inputs, outputs) and bias of a linear layer behind a norm, with the norm's weights and biases in them."""
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    if isinstance(norm, LayerNorm):
        bias = bias + weight @ norm.bias.detach().double()
    return weight.T * norm.weight.detach().double()[:, None], bias


def _side_by_side(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, int]:
    """One matrix (inputs, outputs) and bias of two with the same inputs, and where the second's outputs begin: with a panel."""
    begin = padded(len(first[1]))
    gap = begin - len(first[1])
    return torch.cat([F.pad(first[0], (0, gap)), second[0]], dim=1), torch.cat([F.pad(first[1], (0, gap)), second[1]]), begin


class _Builder:
    def __init__(self, dtype: np.dtype, stored: Stored, rank: int, ranks: int) -> None:
        self.dtype, self.rank, self.ranks = dtype, rank, ranks
        self.weights = Products(dtype, stored)
        self.rows: list[list[int]] = []
        self.channels: dict[int, Tensor] = {}
        self.kept: list[np.ndarray] = []
        self.room = 0

    def product(self, matrix: Tensor, bias: Tensor | None = None, own: slice | Tensor = ALL) -> int:
        self.room = max(self.room, *(padded(size) for size in matrix[own].shape))
        return self.weights.add(matrix, bias, own)

    def numbers(self, values: Tensor) -> int:
        """The address of numbers as the compiled code reads them."""
        array = aligned(tuple(values.shape), self.dtype)
        array[...] = values.detach().double().numpy()
        self.kept.append(array)
        return address(array)

    def row(self, kind: int, level: int, values: dict[int, int]) -> None:
        row = [0] * columns.COLUMNS
        row[columns.KIND], row[columns.LEVEL] = kind, level
        for column, value in values.items():
            row[column] = value
        self.rows.append(row)

    def level(self, module: Stack | SkipBlock, number: int) -> None:
        if isinstance(module, Stack):
            self.blocks(module, number)
            return
        self.blocks(module.pre, number)
        pooling = self.pooling(module)
        entered = len(self.rows)
        self.row(columns.ENTER, number, pooling)
        self.level(module.inner, number + 1)
        self.rows[entered][columns.AFTER] = len(self.rows) + 1
        self.row(columns.LEAVE, number, pooling)
        self.row(columns.MERGE, number, pooling)
        self.blocks(module.post, number)

    def pooling(self, module: SkipBlock) -> dict[int, int]:
        down, up, p = module.down, module.up, module.factor
        if down.weight.shape[1:] == (p, 1) and up.weight.shape[1:] == (1, p):
            return self.pooling_by_channel(module)
        groups, inputs, outputs = down.groups, up.bias.shape[0] // down.groups, down.bias.shape[0] // down.groups
        down_bias, up_bias = down.bias.view(groups, outputs), up.bias.view(groups, inputs).repeat(1, p)
        downs = [self.product(down.weight[g], down_bias[g]) for g in range(groups)]
        ups = [self.product(up.weight[g], up_bias[g]) for g in range(groups)]
        return {
            columns.WIDTH: groups * inputs,
            columns.STRIDE: padded(groups * inputs),
            columns.FACTOR: p,
            columns.FRAME: int(module.shift == p),
            columns.GROUPS: groups,
            columns.GROUP_WIDTH: inputs,
            columns.RAISED_STRIDE: padded(p * inputs),
            columns.DOWN: downs[0],
            columns.UP: ups[0],
            columns.INNER_STRIDE: padded(groups * outputs),
            columns.INNER_GROUP_WIDTH: outputs,
        }

    def pooling_by_channel(self, module: SkipBlock) -> dict[int, int]:
        width, p = len(module.down.bias), module.factor
        return {
            columns.WIDTH: width,
            columns.STRIDE: padded(width),
            columns.FACTOR: p,
            columns.FRAME: int(module.shift == p),
            columns.GROUPS: 1,
            columns.GROUP_WIDTH: width,
            columns.RAISED_STRIDE: padded(p * width),
            columns.INNER_STRIDE: padded(width),
            columns.INNER_GROUP_WIDTH: width,
            columns.BY_CHANNEL: 1,
            columns.DOWN: self.numbers(module.down.weight[:, :, 0].T),
            columns.DOWN_BIAS: self.numbers(module.down.bias),
            columns.UP: self.numbers(module.up.weight[:, 0].T),
            columns.UP_BIAS: self.numbers(module.up.bias),
        }

    def blocks(self, stack: Stack, level: int) -> None:
        for module in stack.blocks:
            assert isinstance(module, ResidualBlock)
            self.block(module, level)

    def block(self, module: ResidualBlock, level: int) -> None:
        mixer, mlp, first = module.mixer, module.mlp, self.rank == 0
        layer = mixer.layer
        width = layer.input.in_features
        hidden = share(mlp.layer.out_features, self.rank, self.ranks, PANEL)
        values, rows, channels = self.recurrence(layer)
        own = share(width, self.rank, self.ranks, PANEL)
        gated = channels if layer.projection is None else torch.arange(own.start, own.stop)
        inputs, inputs_bias = _normed(layer.input, mixer.norm)
        gate, gate_bias = _normed(mixer.gate, mixer.norm)
        mlp_gate, mlp_gate_bias = _normed(mlp.gate, mlp.norm)
        mlp_input, mlp_input_bias = _normed(mlp.layer, mlp.norm)
        # In the order in which they are used, as memory is fastest to read.
        *both, gate_at = _side_by_side((inputs[:, rows], inputs_bias[rows]), (gate[:, gated], gate_bias[gated]))
        values |= {columns.INPUTS: self.product(*both), columns.GATE_AT: gate_at, columns.GATED: len(gated)}
        if isinstance(layer.recurrence, GatedRecurrence):
            weight, bias = merged_heads(layer.recurrence)
            heads = range(values[columns.UNIT] // values[columns.HEAD_UNITS], len(weight))[: values[columns.HEADS]]
            gates = [self.product(weight[head], bias[head]) for head in heads]
            values[columns.RECURRENCE_GATES] = gates[0] if gates else 0
        if layer.projection is not None:
            projection = self.product(layer.projection.weight.T, layer.projection.bias if first else None, channels)
            values |= {columns.PROJECTED: 1, columns.PROJECTION: projection, columns.FIRST_GATED: own.start}
        *both, hidden_at = _side_by_side((mlp_gate[:, hidden], mlp_gate_bias[hidden]), (mlp_input[:, hidden], mlp_input_bias[hidden]))
        kernel, conv_bias = torch.ones(1, layer.input.out_features), torch.zeros(layer.input.out_features)
        if layer.conv is not None:
            kernel, conv_bias = layer.conv.kernel, layer.conv.bias
        values |= {
            columns.OUTPUT: self.product(mixer.output.weight.T, mixer.output.bias if first else None, gated),
            columns.MLP_INPUTS: self.product(*both),
            columns.MLP_OUTPUT: self.product(mlp.output.weight.T, mlp.output.bias if first else None, hidden),
            columns.WIDTH: width,
            columns.STRIDE: padded(width),
            columns.ROWS: len(rows),
            columns.HIDDEN: hidden.stop - hidden.start,
            columns.HIDDEN_AT: hidden_at,
            columns.TAPS: len(kernel),
            columns.KERNEL: self.numbers(kernel[:, rows]),
            columns.CONV_BIAS: self.numbers(conv_bias[rows]),
        }
        self.channels[len(self.rows)] = rows
        self.row(columns.BLOCK, level, values)

    def recurrence(self, module: TemporalMixer) -> tuple[dict[int, int], Tensor, Tensor]:
        """The columns of a block's recurrence, the channels that this worker's part of it reads in rising order, and those of its units,
        real parts first."""
        layer, width = module.recurrence, module.input.out_features
        if layer is None:
            own = share(width, self.rank, self.ranks, PANEL)
            channels = torch.arange(own.start, own.stop)
            return {columns.UNIT: own.start, columns.UNITS: len(channels)}, channels, channels
        assert isinstance(layer, GatedRecurrence)  # as the engine knows all layers of the model
        count = len(merged_heads(layer)[0])
        heads, per_head = share(count, self.rank, self.ranks), layer.units // count
        own = slice(heads.start * per_head, heads.stop * per_head)
        units = torch.arange(own.start, own.stop)
        channels = units if layer.phase is None else torch.cat([units, units + layer.units])
        head_width = width // count
        rows = torch.cat([torch.arange(heads.start * head_width, heads.stop * head_width), channels]).unique()
        self.room = max(self.room, 4 * len(units), count * padded(2 * per_head))
        values = {
            columns.PARTS: 1 if layer.phase is None else 2,
            columns.UNIT: own.start,
            columns.UNITS: len(units),
            columns.ALL_UNITS: layer.units,
            columns.HEADS: heads.stop - heads.start,
            columns.HEAD_WIDTH: head_width,
            columns.HEAD_UNITS: per_head,
            columns.HEADS_AT: int((rows < heads.start * head_width).sum()),
            columns.REAL_AT: int((rows < own.start).sum()),
            columns.IMAGINARY_AT: int((rows < own.start + layer.units).sum()),
            columns.DECAY: self.numbers(-C * F.softplus(layer.decay.detach().double()[own])),
        }
        if layer.phase is not None:
            values[columns.ANGLE] = self.numbers(layer.phase[own])
        return values, rows, channels


def merged_heads(layer: GatedRecurrence) -> tuple[Tensor, Tensor]:
    """The gates of as many heads together as fill a panel, (H, inputs, 2 units) and (H, 2 units), with zeros between them: a product of few
    outputs takes as long as one of a panel."""
    heads, inputs, outputs = layer.gate_weight.shape
    together = next(n for n in range(max(1, PANEL // outputs), 0, -1) if heads % n == 0)
    weight = layer.gate_weight.detach().double().view(-1, together, inputs, 2, 1, outputs // 2)
    diagonal = torch.eye(together, dtype=weight.dtype).view(together, 1, 1, together, 1)
    bias = layer.gate_bias.detach().double().view(-1, together, 2, outputs // 2).transpose(1, 2).flatten(1)
    return (weight * diagonal).reshape(-1, together * inputs, together * outputs), bias
