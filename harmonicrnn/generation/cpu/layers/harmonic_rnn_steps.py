"""Compiles the whole model: embedding, levels and head."""

import torch
from torch import nn

from harmonicrnn.generation.cpu.layers.channel_steps import EmbeddingStep, NormStep, fold
from harmonicrnn.generation.cpu.layers.linear import ProductStep, matrix, side_by_side
from harmonicrnn.generation.cpu.layers.pooling_steps import LevelEnd
from harmonicrnn.generation.cpu.layers.prediction_steps import FeatureStep, MixtureStep, MultipliedStep, PredictionStep, SteeringStep
from harmonicrnn.generation.cpu.layers.team_sum import LogitsStep, as_index
from harmonicrnn.generation.cpu.llvm import PANEL
from harmonicrnn.generation.cpu.operation import Find
from harmonicrnn.generation.cpu.worker_program import Level, Program
from harmonicrnn.models import HarmonicRNN, LinearPrediction
from harmonicrnn.models.block import LayerNorm, RMSNorm
from harmonicrnn.models.embedding import ClassEmbedding
from harmonicrnn.models.harmonic_rnn import PredictionFeatures
from harmonicrnn.models.prediction_gate import PredictionGate


def compile_harmonic_rnn(program: Program, net: HarmonicRNN, _: Level, find: Find) -> None:
    program.expect((LayerNorm, RMSNorm), net.head_norm)
    program.expect((nn.Linear,), net.head, net.steering)
    program.expect((PredictionGate,), net.gate)
    program.expect((ClassEmbedding,), net.embedding)
    program.expect((LinearPrediction,), net.prediction)
    program.expect((PredictionFeatures,), net.features)
    if net.features is not None:
        program.expect((ClassEmbedding,), *net.features.tables)
        program.expect((nn.Linear,), net.features.numbers)
    share, level, levels = program.share, program.level(net.head.in_features), find
    embedding = EmbeddingStep(share, net.embedding, net.classes, level.x[0])
    program.add(embedding)
    if net.prediction is not None:
        levels = lambda state: find(state).levels  # noqa: E731
        prediction = PredictionStep(share, net.prediction, embedding, lambda state: find(state).prediction)
        program.add(prediction)
        if net.features is not None:
            program.add(FeatureStep(share, net.features, prediction, level.x[0]))
    program.compile(net.levels, level, levels)
    program.add(LevelEnd(share, level, levels))
    own = share.part(net.classes, PANEL)
    program.add(NormStep(share, net.head_norm, level.width, level.x[0], program.normed[0]))
    logits, start = program.products, 0
    beside = net.steering if net.gate is None else net.gate.state
    if beside is None:
        fold(net.head_norm, net.head)
        weights, bias = matrix(share, net.head)[..., own.start : own.stop], net.head.bias[None, own.start : own.stop]
    else:
        fold(net.head_norm, net.head, beside)
        weights, bias, start = side_by_side(net.head, as_index(own), beside, torch.arange(beside.out_features), share)
    program.add(ProductStep(share, weights, bias, program.normed[0], logits[0]))
    if net.steering is not None:
        steering = SteeringStep(share, prediction, logits[start])
        program.add(steering, MixtureStep(share, prediction, steering, own, logits[0]))
    program.add(LogitsStep(share, logits[0], own))
    if net.multiplies:
        program.add(MultipliedStep(share, prediction, net.gate, logits[start]))
