"""LinearPrediction, a layer: linear predictors that adapt along the clip, and their mixture as a distribution over classes.

Three stages: linear recurrences with constant coefficients, the solution of linear equations, and a softmax. The widths and initial
weights of the mixture are learned, unless a floor is set; a network may also steer the mixture (`LinearPrediction.steered`). See
docs/prediction.md.

    p_i(t)       prediction of x_t by predictor i, from x_<t                   (`harmonicrnn.ops.prediction.predictor`)
    s_i(t + 1) = b s_i(t) + (1 - b) |x_t - p_i(t)| + 1e-7                      running error of predictor i, used as at least
                                                                               cell_floor times the width of the cell of p_i
    P_k(x)       a discretised logistic around p_i of the scale m_k s_i        (`harmonicrnn.ops.prediction.mixture`)
    l_k(t + 1) = g l_k(t) + log P_k(x_t)                                       log weight of component k
    P(x_t)     = sum_k softmax_k(g l(t)) P_k(x_t)

A network joins them with its own distribution in one of two ways: in a mixture of both, whose shares it sets (`LinearPrediction.joined`),
or in their product above a floor (`LinearPrediction.multiplied`), with a network that is trained alone, and a gate that is trained after
it (`harmonicrnn.models.prediction_gate`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from math import inf
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonicrnn.models.mixing import MixesTime
from harmonicrnn.models.state import State, after, state_dtype
from harmonicrnn.ops import linear_scan
from harmonicrnn.ops.prediction import (
    FAR,
    Predictor,
    PredictorState,
    component_log_probabilities,
    mixture_log_probabilities,
    predict,
)

FIRST_SAMPLES, FIRST_DECAY = 20, 0.8
"""b is FIRST_DECAY for the first FIRST_SAMPLES samples of a lane, to find its scale."""

LEAST_GAIN = 1e-7  # keeps s above 0

LEAST_SHARE = 1e-12  # of the uniform distribution beside the network's own; keeps logarithms finite

MOST_LOG_FACTOR = 4.0
"""Bounds the logarithm of the factor by which a network multiplies s."""

FARTHEST = 2.0
"""Bounds |p| after steering."""

DEFAULT_PREDICTORS = (Predictor(16, 0.98, 16), Predictor(32, 0.995, 16), Predictor(256, 0.999, 80))


@dataclass(frozen=True)
class Prediction:
    """Settings of linear prediction in a model.

    Args:
        predictors: Order, window decay, samples between solutions, white noise and floor of each; null for those of orders 16, 32
            and 256.
        input: Whether the predictions enter the embedding.
        logits: Whether the output joins the network's distribution and the predictors'.
        floor: Null for a mixture of both distributions, steered by the network and trained as a whole: head and steering start at zero,
            and an untrained model equals the predictors' mixture. A number above 0 for the product of both where the predictors' P is
            above it, and the network's distribution alone where it is below, see `LinearPrediction.multiplied`: the network is trained
            alone, as without predictors, and its weights can be used with or without them.
        gate: With a floor: whether the probability of what the predictors hold impossible is corrected by a layer of its own
            (`harmonicrnn.models.prediction_gate`). That layer alone is then trained; the network, which was trained before, is kept.
        kept: With a gate: the share of the network's own odds that is added to the gate's. Without it samples can end in silence, which is
            rare in recordings, and in which the gate has not learned to begin.
        widths: Initial scales of each predictor's components, as multiples of its running error.
        first_scale: Initial running error of a lane, for samples in [-1, 1].
        scale_decay: b, of the running error.
        cell_floor: Least s as a fraction of the width of the cell of p, within which samples cannot be told apart. Without it a model
            that is fed its own samples settles at a constant class, which is predicted without error.
        weight_decay: g, of the mixture's log weights.
        share: Weight of the uniform distribution in each component, and initial weight of the network's distribution in the output;
            above 0.

    Raises:
        ValueError: a number is out of range.
    """

    predictors: Sequence[Predictor] | None = None
    input: bool = True
    logits: bool = True
    floor: float | None = None
    gate: bool = False
    kept: float = 0.0
    widths: tuple[float, ...] = (0.35, 0.7, 1.4, 2.8)
    first_scale: float = 0.05
    scale_decay: float = 0.98
    cell_floor: float = 0.3
    weight_decay: float = 0.98
    share: float = 0.002

    def __post_init__(self) -> None:
        for wrong, what in (
            (self.predictors is not None and not self.predictors, "needs at least one predictor"),
            (not self.widths or not all(0 < w < inf for w in self.widths), f"needs finite widths above 0, got {self.widths}"),
            (not 0 < self.first_scale < inf, f"needs a finite first_scale above 0, got {self.first_scale}"),
            (not 0 < self.scale_decay < 1, f"needs a scale_decay above 0 and below 1, got {self.scale_decay}"),
            (not 0 <= self.cell_floor < inf, f"needs a cell_floor of at least 0, got {self.cell_floor}"),
            (not 0 <= self.weight_decay < 1, f"needs a weight_decay of at least 0 and below 1, got {self.weight_decay}"),
            (not 0 < self.share < 1, f"needs a share above 0 and below 1, got {self.share}"),
            (self.floor is not None and not 0 < self.floor < inf, f"needs a finite floor above 0, or null, got {self.floor}"),
            (self.floor is not None and self.input, "with a floor has a network that is trained without predictors: set input to false"),
            (self.floor is not None and not self.logits, "has a floor for the logits, which it does not enter: leave one of them out"),
            (self.gate and self.floor is None, "has a gate, which goes with a floor: set one"),
            (not 0 <= self.kept < inf, f"needs a finite kept of at least 0, got {self.kept}"),
            (self.kept > 0 and not self.gate, "has kept, which goes with a gate: set one"),
            (not (self.input or self.logits), "enters neither the input nor the logits: set one of them, or leave it out (null)"),
        ):
            if wrong:
                raise ValueError(f"prediction {what}")


@dataclass(frozen=True)
class PredictionState(State):
    """The state of predictors and mixture for B lanes, in float64.

    history: (B, N), the last samples, newest first; N is the highest order.
    heard: (B,) int64, number of samples seen.
    sums, filters, failed: per predictor, see `harmonicrnn.ops.prediction.PredictorState`.
    scale: (B, P), running errors.
    log_weights: (B, K), l.
    fresh: (B,), true until the lane's first step.
    """

    history: Tensor
    heard: Tensor
    sums: tuple[Tensor, ...]
    filters: tuple[Tensor, ...]
    failed: tuple[Tensor, ...]
    scale: Tensor
    log_weights: Tensor
    fresh: Tensor


class Predicted(NamedTuple):
    """Predictions of each sample from those before it, in float64: p and s (B, T, P), the mixture's log weights (B, T, K), and each
    predictor's error of the previous sample in units of s (B, T, P), 0 at the first."""

    p: Tensor
    s: Tensor
    log_weights: Tensor
    missed: Tensor


class LinearPrediction(MixesTime):
    """The equations above, for classes that represent samples.

    Until `set_cells` or a checkpoint sets them, the classes have equally wide cells; with a floor, checkpoints do not hold them.

    Args:
        prediction: its settings.
        classes: q.
    """

    def __init__(self, prediction: Prediction, classes: int) -> None:
        super().__init__()
        self.settings, self.classes = prediction, classes
        self.predictors = DEFAULT_PREDICTORS if prediction.predictors is None else tuple(prediction.predictors)
        self.reach = max(predictor.order for predictor in self.predictors)
        # Network logits of 0 are the uniform distribution over q classes.
        self.first_log_scale = math.log(classes * (1 - prediction.share) / prediction.share)
        widths = torch.tensor(prediction.widths).log().repeat(len(self.predictors), 1)
        self.log_width: Tensor
        self.first_log_weights: Tensor
        self.centres: Tensor
        self.limits: Tensor
        alone = prediction.floor is not None  # the state dict is then that of the network
        for name, start in (("log_width", widths), ("first_log_weights", torch.zeros(widths.numel()))):
            if alone:
                self.register_buffer(name, start, persistent=False)
            else:  # Trainable only if used: DDP would wait for missing gradients.
                self.register_parameter(name, nn.Parameter(start, prediction.logits))
        self.register_buffer("centres", torch.empty(classes, dtype=torch.float64), persistent=not alone)
        self.register_buffer("limits", torch.empty(classes + 1, dtype=torch.float64), persistent=not alone)
        grid = torch.arange(1, 2 * classes, dtype=torch.float64) / classes - 1
        self.set_cells(grid[::2], grid[1::2])

    @property
    def steered_by(self) -> int:
        """The number of steering inputs, including the mixture's share: K + 2 P + 1."""
        return self.log_width.numel() + 2 * len(self.predictors) + 1

    @property
    def unseen_in_weights(self) -> str:
        """The settings that weights do not show."""
        names = (field.name for field in fields(self.settings) if field.name not in ("predictors", "widths", "floor", "gate", "kept"))
        own = ", ".join(f"{name} {getattr(self.settings, name)}" for name in names)
        return f"{own}, {', '.join(map(str, self.predictors))}"

    def set_cells(self, centres: Tensor, edges: Tensor) -> None:
        """Sets the sample values of the classes.

        Args:
            centres: (q,), ascending, samples of the classes in [-1, 1].
            edges: (q - 1,), ascending, the limits between neighbouring cells.
        """
        zero = centres[self.classes // 2].double()  # the decoded value of silence
        self.centres.copy_(centres - zero)
        self.limits.copy_(F.pad(F.pad(edges - zero, (1, 0), value=-FAR), (0, 1), value=FAR))

    @property
    def least_s(self) -> Tensor:
        """The least s at each class, (q,); the outer, open cells count as wide as their neighbours."""
        inner = self.limits[1:-1].diff()
        return self.settings.cell_floor * torch.cat([inner[:1], inner, inner[-1:]])

    def begun(self, state: PredictionState | None, fresh: Tensor) -> PredictionState:
        """Returns the state with fresh lanes reset; their `heard` is -1, as their first input is not a sample."""
        if state is None:
            start = [PredictorState.start(predictor, len(fresh), fresh.device) for predictor in self.predictors]
            sums, filters, failed = zip(*start, strict=True)
            history, heard = sums[0].new_zeros(len(fresh), self.reach), torch.zeros_like(failed[0])
            scale, log_weights = history.new_zeros(len(fresh), len(start)), self.first_log_weights.double().expand(len(fresh), -1)
            state = PredictionState(history, heard, sums, filters, failed, scale, log_weights, fresh)
        state = state.reset(fresh)
        return replace(
            state,
            heard=torch.where(fresh, -1, state.heard),
            scale=torch.where(fresh[:, None], self.settings.first_scale, state.scale),
            log_weights=torch.where(fresh[:, None], self.first_log_weights.double(), state.log_weights),
        )

    def _predict(self, x: Tensor, history: Tensor, heard: Tensor, state: PredictionState) -> tuple[Tensor, list[PredictorState]]:
        """Returns p (B, T + 1, P) of the samples x (B, T) and the next one, and the predictors' states after them."""
        predictions, states = [], []
        for predictor, *before in zip(self.predictors, state.sums, state.filters, state.failed, strict=True):
            p, predictor_state = predict(predictor, x, history, heard, PredictorState(*before), self.slices)
            predictions.append(p)
            states.append(predictor_state)
        return torch.stack(predictions, dim=2), states

    def _scales(self, errors: Tensor, count: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns s before and after each sample, (B, T, P), and the last (B, P), from the predictors' absolute errors; `count` (B, T)
        numbers samples from 1."""
        heard, early = (count > 0)[..., None], (count <= FIRST_SAMPLES)[..., None]
        decay = torch.full_like(errors, self.settings.scale_decay).masked_fill(early, FIRST_DECAY)
        gained = ((1 - decay) * errors + LEAST_GAIN).masked_fill(~heard, 0)
        s, last = linear_scan(decay.masked_fill(~heard, 1), gained, before, self.slices)
        first = before[:, None] if self.slices is None else self.slices.halo(s, before[:, None])
        return torch.cat([first, s], dim=1)[:, : s.shape[1]], s, last

    def _at_least(self, s: Tensor, p: Tensor) -> Tensor:
        """Returns s, at least `least_s` at the cells of p."""
        return torch.maximum(s, self.least_s[self._cells(p)])

    def _cells(self, p: Tensor) -> Tensor:
        return torch.bucketize(p.contiguous(), self.limits[1:-1])

    def _log_weights(self, classes: Tensor, p: Tensor, s: Tensor, count: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Returns l after each sample, (B, T, K), and the last, from the predictions p and s."""
        likelihoods = component_log_probabilities(classes, p, s, self.log_width, self.limits, self.settings.share)
        heard = (count > 0)[..., None]
        decay = torch.full_like(likelihoods, self.settings.weight_decay).masked_fill(~heard, 1)
        found, last = linear_scan(decay, likelihoods.masked_fill(~heard, 0), before, self.slices)
        return found, last

    def _computed(self, parameter: Tensor) -> Tensor:
        """Casts to the dtype of the mixture: 16 bits are too few for sums of log-probabilities."""
        return parameter.to(state_dtype(parameter))

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        # Samples stay in float64 when weights are converted.
        kept = self.centres, self.limits
        super()._apply(fn, recurse)
        if not self.centres.is_meta and not kept[0].is_meta:
            self.centres, self.limits = (cells.to(self.centres.device) for cells in kept)
        return self

    def forward(self, delayed: Tensor, state: PredictionState | None = None) -> tuple[Predicted, PredictionState]:
        """Predicts each sample from the class before it, `delayed` (B, T), and earlier ones. The class before a fresh lane's first sample
        is not counted as a sample."""
        settings, time = self.settings, delayed.shape[1]
        fresh = self.fresh_lanes(delayed, state)
        state = self.begun(state, fresh)
        x, heard, history = self.centres[delayed], state.heard, state.history
        if self.slices is not None:
            heard = self.slices.gather(heard)[0] + self.slices.rank * time
            history = self.slices.halo(x[..., None], history.flip(1)[..., None])[..., 0].flip(1)
        p, states = self._predict(x, history, heard, state)
        count = heard[:, None] + torch.arange(1, time + 1, device=x.device)
        errors = (x[..., None] - p[:, :-1]).masked_fill((count == 0)[..., None], 0)
        s_before, s, scale = self._scales(errors.abs(), count, state.scale)
        s_before, used = self._at_least(s_before, p[:, :-1]), self._at_least(s, p[:, 1:])
        log_weights, last_log_weights = self._log_weights(delayed, p[:, :-1], s_before, count, state.log_weights)
        told = Predicted(p[:, 1:], used, F.log_softmax(settings.weight_decay * log_weights, dim=-1), errors / s_before)
        if not time:
            return told, state
        sums, filters, failed = zip(*states, strict=True)
        history = torch.cat([x.flip(1), history], dim=1)[:, : self.reach]
        return told, PredictionState(history, heard + time, sums, filters, failed, scale, last_log_weights, after(fresh, x))

    def log_probabilities(self, predicted: Predicted) -> Tensor:
        """Returns log P(x_t) of each class under the predictors alone, (B, T, q)."""
        log_width = self._computed(self.log_width)
        return mixture_log_probabilities(predicted.p, predicted.s, log_width, predicted.log_weights, self.limits, self.settings.share)

    def joined(self, predicted: Predicted, steering: Tensor, own: Tensor) -> Tensor:
        """Returns logits (B, T, q) of the mixture of the network's and the predictors' distributions: log(exp(own) + exp(G) P).

        Args:
            predicted: predictions, from `forward`.
            steering: (B, T, K + 2 P + 1), the inputs of `steered` and one that is added to G; zeros give the network's distribution the
                weight `settings.share`.
            own: (B, T, q), the network's logits; zeros are the uniform distribution.
        """
        moved, log_width = self.steered(predicted, steering[..., :-1]), self._computed(self.log_width)
        mixture = mixture_log_probabilities(moved.p, moved.s, log_width, moved.log_weights, self.limits, LEAST_SHARE)
        return torch.logaddexp(own.to(mixture.dtype), self._log_scale(steering)[..., None] + mixture)

    def multiplied(self, predicted: Predicted, own: Tensor, gate: Callable[[Predicted, Tensor], Tensor] | None = None) -> Tensor:
        """Logits (B, T, q) of the product of a network's own distribution h and the predictors' P, above a floor.

        With the share q(x) = P(x) / (floor + P(x)) of what the predictors hold possible, and G, the probability of what they do not:

            p(x) = G h(x) (1 - q(x)) / sum h (1 - q) + (1 - G) h(x) q(x) P(x) / sum h q P

        Args:
            predicted: what the predictors say.
            own: (B, T, q), the network's logits.
            gate: gives the log odds of G from predictions and the network's own log odds (B, T); None for those, G = sum h (1 - q).
        """
        assert self.settings.floor is not None
        p, s, log_weights, _ = predicted
        mixture = mixture_log_probabilities(p, s, self._computed(self.log_width), log_weights, self.limits, LEAST_SHARE)
        floor, h = mixture.new_tensor(self.settings.floor).log(), own.to(mixture.dtype).log_softmax(dim=-1)
        either = torch.logaddexp(floor, mixture)
        possible, impossible = mixture - either, floor - either  # log q and log(1 - q)
        outside = (h + impossible).logsumexp(dim=-1)
        odds = outside - (h + possible).logsumexp(dim=-1)
        if gate is not None:
            odds = gate(predicted, odds).to(odds.dtype)
        struck = (F.logsigmoid(odds) - outside)[..., None] + impossible
        ringing = (F.logsigmoid(-odds) - (h + possible + mixture).logsumexp(dim=-1))[..., None] + possible + mixture
        return own.to(mixture.dtype) + torch.logaddexp(struck, ringing)

    def joined_nats(self, predicted: Predicted, steering: Tensor, own: Tensor, classes: Tensor) -> Tensor:
        """Returns -ln p of classes (B, T) under the logits of `joined`, without computing the predictors' other classes; (B, T) in float32,
        or float64 for a float64 model."""
        moved, log_scale, own = self.steered(predicted, steering[..., :-1]), self._log_scale(steering), self._computed(own)
        given = classes.long()
        each = component_log_probabilities(given, moved.p, moved.s, self.log_width, self.limits, LEAST_SHARE)
        mixture = torch.logsumexp(moved.log_weights + each, dim=-1)
        here = torch.logaddexp(own.gather(-1, given[..., None])[..., 0].double(), log_scale.double() + mixture)
        return torch.logaddexp(own.logsumexp(dim=-1), log_scale) - here.to(own.dtype)

    def _log_scale(self, steering: Tensor) -> Tensor:
        """G (B, T)."""
        return self._computed(steering[..., -1]) + self.first_log_scale

    def steered(self, predicted: Predicted, steering: Tensor) -> Predicted:
        """Applies steering inputs (B, T, K + 2 P) of a network to the predictions; zeros change nothing.

        The first K are added to the components' log weights. Then follow, for each predictor, the log of a factor of its s, bounded by
        `MOST_LOG_FACTOR` through a tanh, and a shift of its p in units of s; p is clamped to [-2, 2].
        """
        predictors = len(self.predictors)
        weights, scales, centres = steering.double().split([self.log_width.numel(), predictors, predictors], dim=-1)
        return predicted._replace(
            p=(predicted.p + predicted.s * centres).clamp(-FARTHEST, FARTHEST),
            s=predicted.s * (MOST_LOG_FACTOR * torch.tanh(scales / MOST_LOG_FACTOR)).exp(),
            log_weights=F.log_softmax(predicted.log_weights + weights, dim=-1),
        )

    def predicted_classes(self, predicted: Predicted) -> Tensor:
        """Returns the classes of p, (B, T, P)."""
        return self._cells(predicted.p)
