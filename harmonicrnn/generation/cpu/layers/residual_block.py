"""Compiles the residual block: its two branches with their temporal mixer and linear layer."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from harmonicrnn.generation.cpu.addresses import Place
from harmonicrnn.generation.cpu.layers.channel_steps import ConvStep, GateStep, NormStep, fold
from harmonicrnn.generation.cpu.layers.linear import ProductStep, matrix, side_by_side
from harmonicrnn.generation.cpu.layers.team_sum import SumStep, as_index
from harmonicrnn.generation.cpu.llvm import PANEL
from harmonicrnn.generation.cpu.operation import Find
from harmonicrnn.generation.cpu.worker_program import Level, Program
from harmonicrnn.models import ModelState, ResidualBlock
from harmonicrnn.models.block import LayerNorm, ResidualBranch, RMSNorm, Stack, TemporalMixer
from harmonicrnn.models.conv import CausalConv


class BranchLayer(NamedTuple):
    """A worker's part of the layer of a branch.

    Attributes:
        entry: its first product; this worker computes the outputs `rows`.
        gated: the channels of the layer's output that this worker computes, which the branch's gate multiplies.
        rest: adds the remaining operations on rows at a place; returns the place of the output.
    """

    entry: nn.Linear
    rows: Tensor
    gated: Tensor
    rest: Callable[[Place], Place]


def compile_stack(program: Program, module: Stack, level: Level, find: Find) -> None:
    for i, block in enumerate(module.blocks):
        program.compile(block, level, partial(_block_state, find, i))


def _block_state(find: Find, i: int, state: ModelState) -> Any:
    return find(state).blocks[i]


def compile_residual_block(program: Program, block: ResidualBlock, level: Level, find: Find) -> None:
    program.compile(block.mixer, level, find)
    program.compile(block.mlp, level, find)


def compile_residual_branch(program: Program, branch: ResidualBranch[Any], level: Level, find: Find) -> None:
    """Adds x + W_out (layer(norm(x)) * GELU(W_gate norm(x)))."""
    program.expect((LayerNorm, RMSNorm), branch.norm)
    program.expect((nn.Linear,), branch.gate, branch.output)
    share, layer = program.share, program.compile(branch.layer, level, find)
    program.add(NormStep(share, branch.norm, level.width, level.x[0], program.normed[0]))
    fold(branch.norm, layer.entry, branch.gate)
    weights, biases, gate_at = side_by_side(layer.entry, layer.rows, branch.gate, layer.gated, share)
    program.add(ProductStep(share, weights, biases, program.normed[0], program.products[0]))
    gate = program.products[gate_at]
    program.add(GateStep(share, gate, layer.rest(program.products[0]), len(layer.gated)))
    parts = share.team.parts["mixer" if isinstance(branch.layer, TemporalMixer) else "mlp"]
    bias = branch.output.bias[None] if share.rank == 0 else None
    program.add(ProductStep(share, matrix(share, branch.output), bias, gate, parts[share.rank][0], layer.gated))
    program.add(SumStep(share, parts, range(level.width), level.x[0], added=True))


def compile_linear(program: Program, layer: nn.Linear, level: Level, find: Find) -> BranchLayer:
    program.expect((nn.Linear,), layer)
    own = as_index(program.share.part(layer.out_features, PANEL))
    return BranchLayer(layer, own, own, lambda rows: rows)


def compile_temporal_mixer(program: Program, mixer: TemporalMixer, level: Level, find: Find) -> BranchLayer:
    """Returns the parts of P recurrence(conv(W u))."""
    program.expect((nn.Linear,), mixer.input, mixer.projection)
    program.expect((CausalConv,), mixer.conv)
    share, channels = program.share, as_index(program.share.part(mixer.input.out_features, PANEL))
    units = mixer.recurrence and program.compile(mixer.recurrence, level, lambda state: find(state).recurrence)
    rows, outputs = (units.inputs, units.outputs) if units else (channels, channels)
    projected = share.part(level.width, PANEL)

    def rest(at: Place) -> Place:
        if mixer.conv is not None:
            conv = ConvStep(share, mixer.conv, rows, at, program.mixed[0], level.fresh, lambda state: find(state).conv)
            program.add(conv)
            at = program.mixed[0]
        if units:
            at = units.rest(at)
        if mixer.projection is not None:
            parts, bias = share.team.parts["projection"], mixer.projection.bias[None] if share.rank == 0 else None
            program.add(ProductStep(share, matrix(share, mixer.projection), bias, at, parts[share.rank][0], outputs))
            at = program.normed[0]
            program.add(SumStep(share, parts, projected, at, added=False))
        return at

    return BranchLayer(mixer.input, rows, outputs if mixer.projection is None else as_index(projected), rest)
