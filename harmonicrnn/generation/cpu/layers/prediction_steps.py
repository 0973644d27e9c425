"""Linear prediction as steps of the CPU engine: the predictors, their features, and the mixture or the product with the logits."""

from typing import Any

import numpy as np
import torch

from harmonicrnn.generation.cpu.addresses import WORKER, Place, address, aligned, layout
from harmonicrnn.generation.cpu.layers.channel_steps import EmbeddingStep
from harmonicrnn.generation.cpu.layers.team_sum import meet
from harmonicrnn.generation.cpu.llvm import record, view
from harmonicrnn.generation.cpu.operation import Find, Operation, Share
from harmonicrnn.machine_code import jit, kept
from harmonicrnn.models import LinearPrediction, ModelState
from harmonicrnn.models.harmonic_rnn import PredictionFeatures
from harmonicrnn.models.prediction import FARTHEST, FIRST_DECAY, FIRST_SAMPLES, LEAST_GAIN, LEAST_SHARE, MOST_LOG_FACTOR
from harmonicrnn.models.prediction_gate import BOUND, UNIT, PredictionGate
from harmonicrnn.ops.elementary import like
from harmonicrnn.ops.prediction.compiled import hear, is_due, prediction, solve
from harmonicrnn.ops.prediction.mixture_compiled import component_log_probability, mix, place_among

WIDE = np.float64(0)  # the type of the predictors' state

PREDICTION = layout(
    "last", "heard", "past", "reach", "running", "scale", "p", "missed", "log_weights", "weights", "predictors", "components", "classes",
    "centres", "limits", "least", "widths", "table", "room", scale_decay="f8", weight_decay="f8", uniform="f8",
)  # fmt: skip
"""Per lane: `heard` (samples seen), `past` (reach + 1), newest first; running s, s in use (`scale`), `p` and `missed` (predictors);
`log_weights` and `weights`, pi (components). Per predictor: a row of `table`, a PREDICTOR. `least`: the least s of each class."""

PREDICTOR = layout("order", "every", "sums", "filters", "failed", decay="f8", white="f8", floor="f8")
PREDICTOR_BYTES = PREDICTOR.itemsize

FEATURES = layout("given", "tables", "map", "target", "target_stride", "width")
"""`tables` (predictors, classes, width) and `map` (2 predictors + components, width), in the dtype of the activations. `given`, here and
below: the address of the PREDICTION."""

STEERING = layout("given", "p", "scale", "weights", "log_scale", "source", "source_stride", first_log_scale="f8")
"""`source`: steering outputs of the network for each lane, in the dtype of the activations; `p`, `scale` and `weights` after steering;
`log_scale`: G."""

MIXTURE = layout("given", "steered", "first", "size", "room", "target", "target_stride")
"""For `size` classes from `first` on; `steered`: the address of the STEERING; `room` (3, size + 1) is scratch in the dtype of the
activations."""

MULTIPLIED = layout("given", "room", "hidden", "source", "source_stride", "errors", "out", "numbers", floor="f8", bias="f8", kept="f8")
"""`room` (3, classes + 1) is scratch in the dtype of the activations. Of a gate, if `hidden` is not 0: `source`, the part of its hidden
units that comes from the network, for each lane; `errors` (hidden, 2 predictors + components + 1), `out` (hidden), and `numbers`, scratch,
in float64."""


@jit
def _row(address: Any, lane: Any, width: Any) -> Any:
    return view(address, lane * width, width, WIDE)


@kept
def _predict(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, PREDICTION), record(worker, WORKER)
    whole = np.int64(0)
    last, heard = view(o.last, 0, me.lanes, whole), view(o.heard, 0, me.lanes, whole)
    centres, limits = view(o.centres, 0, o.classes, WIDE), view(o.limits, 0, o.classes + 1, WIDE)
    widths, least = view(o.widths, 0, o.components, WIDE), view(o.least, 0, o.classes, WIDE)
    each = o.components // o.predictors
    for lane in range(me.lanes):
        past, scale, p = _row(o.past, lane, o.reach + 1), _row(o.scale, lane, o.predictors), _row(o.p, lane, o.predictors)
        log_weights, weights = _row(o.log_weights, lane, o.components), _row(o.weights, lane, o.components)
        missed, running = _row(o.missed, lane, o.predictors), _row(o.running, lane, o.predictors)
        cell = last[lane]
        x = centres[cell]
        if heard[lane] >= 0:
            _weigh(limits[cell], limits[cell + 1], p, scale, widths, each, log_weights, o.weight_decay, o.uniform, o.classes)
            decay = FIRST_DECAY if heard[lane] < FIRST_SAMPLES else o.scale_decay
            for i in range(len(running)):
                missed[i] = (x - p[i]) / scale[i]
                running[i] = decay * running[i] + ((1 - decay) * abs(x - p[i]) + LEAST_GAIN)
        for k in range(o.reach, 0, -1):
            past[k] = past[k - 1]
        past[0] = x
        for i in range(o.predictors):
            one = record(o.table + i * PREDICTOR_BYTES, PREDICTOR)
            lags = one.order + 1
            s1, s2, s3 = _row(one.sums, 3 * lane, lags), _row(one.sums, 3 * lane + 1, lags), _row(one.sums, 3 * lane + 2, lags)
            filter = _row(one.filters, lane, one.order)
            if heard[lane] >= 0:
                hear(s1, s2, s3, past[:lags], one.decay * one.decay)
            room = view(o.room, 0, 5 * one.order, WIDE)
            if is_due(heard[lane] + 1, one.every) and not solve(s2, s3, one.decay, one.white, one.floor, room, filter):
                view(one.failed, lane, 1, whole)[0] += 1
            p[i] = prediction(filter, past[: one.order])
            scale[i] = max(running[i], least[place_among(limits[1 : o.classes], p[i])])
        heard[lane] += 1
        _softmax(log_weights, o.weight_decay, weights)
    return np.int64(0)


@jit
def _weigh(
    lower: Any, upper: Any, p: Any, scale: Any, widths: Any, each: Any, log_weights: Any, decay: Any, share: Any, classes: Any
) -> None:
    """Updates the log weights with each component's log-likelihood of a sample."""
    for k in range(len(log_weights)):
        i = k // each
        found = component_log_probability(lower - p[i], upper - p[i], widths[k] * scale[i], share, classes)
        log_weights[k] = decay * log_weights[k] + found


@jit
def _softmax(numbers: Any, factor: Any, found: Any) -> None:
    top = numbers[0]
    for number in numbers:
        top = max(top, number)
    total = 0.0
    for k in range(len(numbers)):
        found[k] = np.exp(factor * (numbers[k] - top))
        total += found[k]
    for k in range(len(numbers)):
        found[k] /= total


class PredictionStep(Operation):
    """Updates the predictors with each lane's last class and predicts the next sample. Each worker does all of it, which is faster than
    synchronising."""

    layout, step = PREDICTION, staticmethod(_predict)

    def __init__(self, share: Share, layer: LinearPrediction, last: EmbeddingStep, find: Find) -> None:
        settings, self.layer, self._last, self._find = layer.settings, layer, last, find
        components = layer.log_width.numel()
        super().__init__(
            share, reach=layer.reach, predictors=len(layer.predictors), components=components, classes=layer.classes,
            scale_decay=settings.scale_decay, weight_decay=settings.weight_decay, uniform=settings.share,
        )  # fmt: skip
        room = torch.zeros(5 * layer.reach)
        fixed = layer.centres, layer.limits, layer.least_s, layer.log_width.detach().double().exp().flatten(), room
        self._fixed = [np.array(t.double().numpy()) for t in fixed]  # copies
        for name, array in zip(("centres", "limits", "least", "widths", "room"), self._fixed, strict=True):
            self.record[name] = address(array)
        self._table = np.zeros(len(layer.predictors), PREDICTOR)
        for row, predictor in zip(self._table, layer.predictors, strict=True):
            for name in ("order", "every", "decay", "white", "floor"):
                row[name] = getattr(predictor, name)
        self.record["table"] = address(self._table)

    def begin(self, lanes: int) -> None:
        super().begin(lanes)
        self.record["last"] = address(self._last.last)
        wide, whole, layer = np.dtype(np.float64), np.dtype(np.int64), self.layer
        predictors, components = len(layer.predictors), layer.log_width.numel()
        self._heard, self._past = aligned(lanes, whole), aligned((lanes, layer.reach + 1), wide)
        self._running, self.scale, self.p, self.missed = (aligned((lanes, predictors), wide) for _ in range(4))
        self._log_weights, self.weights = aligned((lanes, components), wide), aligned((lanes, components), wide)
        arrays = self._heard, self._past, self._running, self.scale, self.p, self.missed, self._log_weights, self.weights
        for name, array in zip(("heard", "past", "running", "scale", "p", "missed", "log_weights", "weights"), arrays, strict=True):
            self.record[name] = address(array)
        self._sums = [aligned((lanes, 3, p.order + 1), wide) for p in layer.predictors]
        self._filters = [aligned((lanes, p.order), wide) for p in layer.predictors]
        self._failed = [aligned(lanes, whole) for _ in layer.predictors]
        for name, rows in (("sums", self._sums), ("filters", self._filters), ("failed", self._failed)):
            self._table[name] = [address(row) for row in rows]

    def load(self, state: ModelState) -> None:
        given = self._find(state)
        with torch.no_grad():
            begun = self.layer.begun(given, given.fresh)
        self.missed[:] = 0
        self._heard[:], self._past[:, :-1] = begun.heard.numpy(), begun.history.numpy()
        self._running[:], self._log_weights[:] = begun.scale.numpy(), begun.log_weights.detach().double().numpy()
        for targets, values in ((self._sums, begun.sums), (self._filters, begun.filters), (self._failed, begun.failed)):
            for target, value in zip(targets, values, strict=True):
                target[...] = value.numpy()
        for i, predictor in enumerate(self.layer.predictors):  # predictions of the next class
            self.p[:, i] = np.clip((self._filters[i] * self._past[:, : predictor.order]).sum(axis=1), -1, 1)
        _, limits, least, *_ = self._fixed
        self.scale[:] = np.maximum(self._running, least[np.searchsorted(limits[1:-1], self.p)])

    def store(self, state: ModelState) -> None:
        given = self._find(state)
        given.fresh[:] = torch.from_numpy(self._heard < 0)
        given.heard[:], given.history[:] = torch.from_numpy(self._heard), torch.from_numpy(self._past[:, :-1])
        given.scale[:], given.log_weights[:] = torch.from_numpy(self._running), torch.from_numpy(self._log_weights)
        for sources, targets in ((self._sums, given.sums), (self._filters, given.filters), (self._failed, given.failed)):
            for source, target in zip(sources, targets, strict=True):
                target[...] = torch.from_numpy(source)


@jit
def _add_row(x: Any, row: Any, factor: Any) -> None:
    for j in range(len(x)):
        x[j] += factor * row[j]


@kept
def _add_features(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, FEATURES), record(worker, WORKER)
    given = record(o.given, PREDICTION)
    predictors, components = given.predictors, given.components
    limits = view(given.limits, 1, given.classes - 1, WIDE)
    for lane in range(me.lanes):
        x = view(o.target, lane * o.target_stride, o.width, tag)
        p, scale = _row(given.p, lane, predictors), _row(given.scale, lane, predictors)
        missed, weights = _row(given.missed, lane, predictors), _row(given.weights, lane, components)
        for i in range(predictors):
            row = view(o.tables, (i * given.classes + place_among(limits, p[i])) * o.width, o.width, tag)
            for j in range(len(x)):
                x[j] += row[j]
            _add_row(x, view(o.map, i * o.width, o.width, tag), like(np.log(scale[i]), tag))
            _add_row(x, view(o.map, (predictors + i) * o.width, o.width, tag), like(np.arcsinh(missed[i]), tag))
        for k in range(components):
            _add_row(x, view(o.map, (2 * predictors + k) * o.width, o.width, tag), like(np.log(weights[k]), tag))
    return np.int64(0)


class FeatureStep(Operation):
    """target += the embedding of the predictors' features."""

    layout, step = FEATURES, staticmethod(_add_features)

    def __init__(self, share: Share, layer: PredictionFeatures, prediction: PredictionStep, target: Place) -> None:
        tables = torch.stack([table(torch.arange(prediction.layer.classes)) for table in layer.tables])
        tables[0] += layer.numbers.bias
        given, width = address(prediction.record), tables.shape[2]
        super().__init__(share, given=given, tables=tables, map=layer.numbers.weight.T, target=target, width=width)


@kept
def _steer(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, STEERING), record(worker, WORKER)
    given = record(o.given, PREDICTION)
    predictors, components = given.predictors, given.components
    for lane in range(me.lanes):
        by = view(o.source, lane * o.source_stride, components + 2 * predictors + 1, tag)
        view(o.log_scale, lane, 1, WIDE)[0] = o.first_log_scale + np.float64(by[components + 2 * predictors])
        p, scale, weights = _row(given.p, lane, predictors), _row(given.scale, lane, predictors), _row(given.weights, lane, components)
        steered_p, steered_scale, steered = _row(o.p, lane, predictors), _row(o.scale, lane, predictors), _row(o.weights, lane, components)
        for i in range(len(p)):
            moved = p[i] + scale[i] * np.float64(by[components + predictors + i])
            steered_p[i] = min(max(moved, -FARTHEST), FARTHEST)
            steered_scale[i] = scale[i] * np.exp(MOST_LOG_FACTOR * np.tanh(np.float64(by[components + i]) / MOST_LOG_FACTOR))
        for k in range(len(weights)):
            steered[k] = np.log(weights[k]) + np.float64(by[k])
        _softmax(steered, 1.0, steered)
    return np.int64(0)


class SteeringStep(Operation):
    """Applies the network's steering to the predictions, in separate rooms: `LinearPrediction.steered`."""

    layout, step = STEERING, staticmethod(_steer)

    def __init__(self, share: Share, prediction: PredictionStep, source: Place) -> None:
        first = prediction.layer.first_log_scale
        super().__init__(share, given=address(prediction.record), source=source, first_log_scale=first)
        self._given = prediction

    def begin(self, lanes: int) -> None:
        super().begin(lanes)
        self._steered = *(np.zeros_like(array) for array in (self._given.p, self._given.scale, self._given.weights)), np.zeros(lanes)
        for name, array in zip(("p", "scale", "weights", "log_scale"), self._steered, strict=True):
            self.record[name] = address(array)


@kept
def _add_mixture(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, MIXTURE), record(worker, WORKER)
    given, steered = record(o.given, PREDICTION), record(o.steered, STEERING)
    predictors, components = given.predictors, given.components
    limits, widths = view(given.limits, o.first, o.size + 1, WIDE), view(given.widths, 0, components, WIDE)
    away, tail = view(o.room, 0, o.size + 1, tag), view(o.room, o.size + 1, o.size + 1, tag)
    found = view(o.room, 2 * (o.size + 1), o.size, tag)
    for lane in range(me.lanes):
        p, scale = _row(steered.p, lane, predictors), _row(steered.scale, lane, predictors)
        mix(p, scale, widths, _row(steered.weights, lane, components), limits, LEAST_SHARE, given.classes, away, tail, found)
        target = view(o.target, lane * o.target_stride, o.size, tag)
        log_scale = view(steered.log_scale, lane, 1, WIDE)[0]
        for j in range(len(target)):
            own, mixture = np.float64(target[j]), log_scale + np.log(np.float64(found[j]))
            target[j] = like(max(own, mixture) + np.log1p(np.exp(-abs(own - mixture))), tag)
    return np.int64(0)


class MixtureStep(Operation):
    """Joins the predictors to target, the network's logits of a worker's classes: `LinearPrediction.joined`."""

    layout, step = MIXTURE, staticmethod(_add_mixture)

    def __init__(self, share: Share, prediction: PredictionStep, steering: SteeringStep, own: range, target: Place) -> None:
        of_others = {"given": address(prediction.record), "steered": address(steering.record)}
        super().__init__(share, first=own.start, size=len(own), target=target, **of_others)
        self.record["room"] = self.array((3, len(own) + 1))


@jit
def _number(x: Any) -> Any:
    return min(max(x, -BOUND), BOUND) / UNIT


@jit
def _gate(inner: Any, o: Any, scale: Any, missed: Any, weights: Any, odds: Any) -> Any:
    """Returns the term that a `PredictionGate` adds to the log odds."""
    predictors, count = len(scale), 2 * len(scale) + len(weights) + 1
    numbers, out = view(o.numbers, 0, count, WIDE), view(o.out, 0, len(inner), WIDE)
    for i in range(predictors):
        numbers[i], numbers[predictors + i] = _number(np.log(scale[i])), _number(np.arcsinh(missed[i]))
    for k in range(len(weights)):
        numbers[2 * predictors + k] = _number(np.log(weights[k]))
    numbers[count - 1] = _number(odds)
    total = o.bias
    for i in range(len(inner)):
        row, unit = view(o.errors, i * count, count, WIDE), np.float64(inner[i])
        for j in range(count):
            unit += row[j] * numbers[j]
        total += out[i] * max(unit, 0.0)
    return total


@kept
def _multiply(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, MULTIPLIED), record(worker, WORKER)
    given = record(o.given, PREDICTION)
    classes, predictors, components = given.classes, given.predictors, given.components
    size = classes + 1
    limits, widths = view(given.limits, 0, size, WIDE), view(given.widths, 0, components, WIDE)
    away, tail, found = view(o.room, 0, size, tag), view(o.room, size, size, tag), view(o.room, 2 * size, classes, tag)
    for lane in range(me.rank, me.lanes, me.ranks):  # sums run over all classes of a lane
        p, scale, weights = _row(given.p, lane, predictors), _row(given.scale, lane, predictors), _row(given.weights, lane, components)
        mix(p, scale, widths, weights, limits, LEAST_SHARE, classes, away, tail, found)
        logits = view(me.logits, lane * me.logits_stride, classes, tag)
        top = np.float64(logits[0])
        for j in range(len(logits)):
            top = max(top, np.float64(logits[j]))
        outside, possible, product = 0.0, 0.0, 0.0
        for j in range(len(logits)):
            own, expected = np.exp(np.float64(logits[j]) - top), np.float64(found[j])
            share = expected / (o.floor + expected)
            outside += own * (o.floor / (o.floor + expected))
            possible += own * share
            product += own * share * expected
        odds = np.log(outside / possible)
        if o.hidden:
            inner = view(o.source, lane * o.source_stride, o.hidden, tag)
            change = _gate(inner, o, scale, _row(given.missed, lane, predictors), weights, odds)
            odds += np.log(np.exp(change) + o.kept)
        # exp of at most 700: of rarer odds nothing is left
        struck = (outside + possible) / outside / (1 + np.exp(min(-odds, 700.0)))
        ringing = (outside + possible) / product / (1 + np.exp(min(odds, 700.0)))
        for j in range(len(logits)):
            expected = np.float64(found[j])
            factor = (struck * o.floor + ringing * expected * expected) / (o.floor + expected)
            logits[j] = like(np.float64(logits[j]) + np.log(factor), tag)
    meet(me)
    return np.int64(0)


class MultipliedStep(Operation):
    """Multiplies the distribution of the shared logits with the predictors': `LinearPrediction.multiplied`.

    Args:
        source: of the outputs of `gate.state`.
    """

    layout, step = MULTIPLIED, staticmethod(_multiply)

    def __init__(self, share: Share, prediction: PredictionStep, gate: PredictionGate | None, source: Place) -> None:
        super().__init__(share, given=address(prediction.record), floor=prediction.layer.settings.floor or 0.0, source=source)
        self.record["room"] = self.array((3, prediction.layer.classes + 1))
        if gate is not None:
            self._gate = [np.array(layer.weight.detach().double().numpy()) for layer in (gate.errors, gate.out)]  # copies
            self._gate.append(np.zeros(gate.errors.in_features))
            for name, array in zip(("errors", "out", "numbers"), self._gate, strict=True):
                self.record[name] = address(array)
            self.record["hidden"], self.record["bias"], self.record["kept"] = gate.state.out_features, gate.out.bias.item(), gate.kept
