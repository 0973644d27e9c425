"""HarmonicRNN, the whole model: from classes to logits of the next class (Szewczyk et al., arXiv 2510.02401)."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from harmonicrnn.errors import check_choice
from harmonicrnn.models.autoregressive_net import AutoregressiveNet, ModelState
from harmonicrnn.models.block import ResidualBlock, make_norm
from harmonicrnn.models.dropout import any_place, at_place, number_dropouts
from harmonicrnn.models.embedding import ClassEmbedding
from harmonicrnn.models.initialisation import linear
from harmonicrnn.models.prediction import LinearPrediction, Predicted, Prediction, PredictionState
from harmonicrnn.models.prediction_gate import PredictionGate
from harmonicrnn.models.presets import PRESETS, Architecture, Embedding, Init, Norm, Preset, Recurrence
from harmonicrnn.models.sample_likelihood import sample_nats
from harmonicrnn.models.skip_block import LevelSpec, Pooling, Shift, build_levels, check_levels
from harmonicrnn.models.state import State, after
from harmonicrnn.ops import Implementation

DEFAULT_LEVELS = (LevelSpec(128, 4, 2), LevelSpec(128, 4, 4), LevelSpec(128, 4, 4), LevelSpec(128, 4, 5), LevelSpec(128, 4))


@dataclass(frozen=True)
class PredictedState(State):
    """The states of the predictors and of the levels."""

    prediction: PredictionState
    levels: State

    @property
    def fresh(self) -> Tensor:
        return self.prediction.fresh


class PredictionFeatures(nn.Module):
    """Embeds the predictions of a sample: a table row for the class that each predictor predicts, and a linear map of log s, asinh of the
    previous sample's error in units of s, and the mixture's log weights.

    Args:
        width: D.
        prediction: the predictors.
        parts: the tables are embeddings of its kind behind a linear map, with its initialisation.
    """

    def __init__(self, width: int, prediction: LinearPrediction, parts: Architecture) -> None:
        super().__init__()
        kind: Embedding = "learned" if parts.embedding == "learned" else "projected"
        predictors = len(prediction.predictors)
        self.tables = nn.ModuleList([ClassEmbedding(prediction.classes, width, kind) for _ in range(predictors)])
        self.numbers = linear(2 * predictors + prediction.log_width.numel(), width, parts.init)

    def forward(self, predicted: Predicted, classes: Tensor) -> Tensor:
        """Returns (B, T, D); `classes` (B, T, P) are the classes of p."""
        numbers = torch.cat([predicted.s.log(), predicted.missed.asinh(), predicted.log_weights], dim=-1)
        total: Tensor = self.numbers(numbers.to(self.numbers.weight.dtype))
        for i, table in enumerate(self.tables):
            total = total + table(classes[..., i])
        return total


class HarmonicRNN(AutoregressiveNet):
    """p(x_t | x_<t) for quantised audio, as a deep linear RNN with pooling.

    Args:
        levels: Width, depth and pooling factor of each level, outermost first; null for the paper's five.
        bits: Bits per sample, 4 to 12; q = 2^bits classes.
        preset: Defaults of the arguments that are null: "paper" (as its authors train it) or "griffin" (the block of Griffin).
        embedding: Embedding of classes: "sinusoidal" (fixed), "projected" (a linear map of sinusoids) or "learned".
        norm: Norm at the start of each residual branch and before the head: "layer" or "rms".
        recurrence: "complex" (CG-LRU), "real" (RG-LRU) or "none"; baselines are "lti" (S4D) and "gru".
        recurrence_expansion: Width of the recurrence as a multiple of the level's width.
        recurrence_projection: Whether a linear map projects the recurrence back to the level's width.
        heads: Diagonal blocks of the recurrence's gate matrices.
        conv_width: Taps of the causal convolution before the recurrence; 0 for none.
        expansion: Inner width of the MLP as a multiple of the level's width.
        groups: Groups of the pooling convolutions; 0 for one per channel.
        modulus: Lowest and highest initial |a|^(1/8), with |a| of a step with an open gate.
        phase: Lowest and highest initial phase, in radians per step.
        phase_grows: Whether the phase's range is multiplied by the samples per step of the level.
        unit_first_step: Whether the input factor of a lane's first step is 1 instead of sqrt(1 - |a|^2).
        max_root_slope: Bound of the derivative of that root.
        dropout: Dropout rate at the end of each residual branch.
        init: Initial weights: "paper" or "griffin".
        shift: Delay of up-pooling: "tight" (p - 1 steps, the least that is causal) or "frame" (p steps).
        prediction: Linear predictors before the network, see `harmonicrnn.models.Prediction`; null for none, as in the paper.
        scan: Implementation of the recurrence: "auto" (the fastest for the device), "reference" (ordinary tensor operations, on any
            device), "cpu" (compiled by numba) or "triton" (kernels for CUDA).

    Raises:
        ValueError: arguments are out of range or do not fit together.
    """

    def __init__(
        self,
        levels: Sequence[LevelSpec] | None = None,
        bits: int = 8,
        preset: Preset = "paper",
        embedding: Embedding | None = None,
        norm: Norm | None = None,
        recurrence: Recurrence | None = None,
        recurrence_expansion: int | None = None,
        recurrence_projection: bool | None = None,
        heads: int | None = None,
        conv_width: int | None = None,
        expansion: int | None = None,
        groups: int | None = None,
        modulus: tuple[float, float] | None = None,
        phase: tuple[float, float] | None = None,
        phase_grows: bool | None = None,
        unit_first_step: bool | None = None,
        max_root_slope: float | None = None,
        dropout: float | None = None,
        init: Init | None = None,
        shift: Shift = "tight",
        prediction: Prediction | None = None,
        scan: Implementation = "auto",
    ) -> None:
        given = {key: value for key, value in locals().items() if key in PRESETS["paper"].__dict__ and value is not None}
        super().__init__(bits)
        levels = DEFAULT_LEVELS if levels is None else levels
        check_levels(levels)
        self.specs = tuple(levels)
        for name, choice, choices in (("preset", preset, Preset), ("shift", shift, Shift), ("scan", scan, Implementation)):
            check_choice(name, choice, get_args(choices))
        self.parts = replace(PRESETS[preset], **given)
        self.shift, self.scan = shift, scan
        self.pooling_product = math.prod(level.factor for level in levels)
        blocks = sum(level.depth * (2 if level.factor > 1 else 1) for level in levels)
        width = levels[0].width
        self.embedding = ClassEmbedding(self.classes, width, self.parts.embedding)
        pooling = Pooling(self.parts.groups, shift, self.parts.init, blocks)
        self.levels = build_levels(levels, partial(ResidualBlock, parts=self.parts, scan=scan), pooling)
        self.head_norm = make_norm(self.parts.norm, width)
        self.head = linear(width, self.classes, self.parts.init)
        self.prediction = None if prediction is None else LinearPrediction(prediction, self.classes)
        self.compiles = prediction is None
        self.features = None
        if self.prediction is not None and self.prediction.settings.input:
            self.features = PredictionFeatures(width, self.prediction, self.parts)
        self.steering = None
        if self.prediction is not None and self.prediction.settings.logits and not self.multiplies:
            self.steering = nn.Linear(width, self.prediction.steered_by)
            for layer in (self.head, self.steering):  # an untrained model equals the predictors' mixture
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.gate = None
        if self.prediction is not None and self.prediction.settings.gate:
            self.requires_grad_(False)  # the gate is trained alone
            self.gate = PredictionGate(width, self.prediction)
        number_dropouts(self)

    @property
    def arguments(self) -> dict[str, Any]:
        """Returns all constructor arguments but `scan` as JSON values, with those of the preset filled in."""
        prediction = None
        if self.prediction is not None:
            prediction = asdict(replace(self.prediction.settings, predictors=self.prediction.predictors))
        levels = [asdict(level) for level in self.specs]
        return {"levels": levels, "bits": self.bits, **asdict(self.parts), "shift": self.shift, "prediction": prediction}

    @property
    def unseen_in_weights(self) -> dict[str, str | int]:
        settings: dict[str, str | int] = {"shift": self.shift, "unit_first_step": self.parts.unit_first_step}
        if self.prediction is not None and not self.multiplies:
            settings["prediction"] = self.prediction.unseen_in_weights
        return settings

    @property
    def multiplies(self) -> bool:
        """Whether the output is the product of the network's distribution, which is trained alone, and the predictors'."""
        return self.prediction is not None and self.prediction.settings.floor is not None

    def predict(self, delayed: Tensor, state: State | None) -> tuple[Tensor, State]:
        y, predicted, after_it = self._read(delayed, state)
        logits: Tensor = self.head(y)
        if self.prediction is not None and predicted is not None:
            if self.steering is not None:
                logits = self.prediction.joined(predicted, self.steering(y), logits)
            elif self.multiplies:
                gate = None if self.gate is None else partial(self.gate, y)
                logits = self.prediction.multiplied(predicted, logits, gate)
        return logits, after_it

    def nats(
        self, classes: Tensor, state: ModelState | None = None, before: Tensor | None = None, heard: Tensor | None = None
    ) -> tuple[Tensor, ModelState]:
        """As `AutoregressiveNet.nats`. With a floor and no gate, a net in training mode is the network alone, without predictors, in its
        state too."""
        if not (self.steering is not None or (self.multiplies and self.training and self.gate is None)):
            return super().nats(classes, state, before, heard)
        delayed, last, fresh = self.delay(classes if heard is None else heard, state, before)
        before_it = state.levels if state else None
        if self.steering is None:  # the network alone
            y, levels = self._levels(self.embedding(delayed), before_it)
            nats = sample_nats(self.head(y), classes)
        else:
            y, predicted, levels = self._read(delayed, before_it)
            assert self.prediction is not None
            assert predicted is not None
            nats = self.prediction.joined_nats(predicted, self.steering(y), self.head(y), classes)
        return nats, ModelState(last, levels, after(fresh, classes))

    def _read(self, delayed: Tensor, state: State | None) -> tuple[Tensor, Predicted | None, State]:
        """Returns the head's input, the predictions, and the state after them."""
        if self.prediction is None:
            y, levels = self._levels(self.embedding(delayed), state)
            return y, None, levels
        if not (state is None or isinstance(state, PredictedState)):
            raise ValueError("the state is of a net in training mode, without predictors: call eval() before the first pass")
        predicted, prediction_state = self.prediction(delayed, state.prediction if state else None)
        x = self.embedding(delayed)
        if self.features is not None:
            x = x + self.features(predicted, self.prediction.predicted_classes(predicted))
        y, levels = self._levels(x, state.levels if state else None)
        return y, predicted, PredictedState(prediction_state, levels)

    def _levels(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Returns the head's input and the state of the levels."""
        with at_place(self, any_place(self, x)):
            y, levels = self.levels(x, state)
        return self.head_norm(y), levels
