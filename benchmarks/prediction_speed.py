"""Speed of linear prediction on one core: alone, in a training step, and in generation of one stream.

    OMP_NUM_THREADS=1 python -m benchmarks.prediction_speed [--samples N] [--repeats N] [--singles N]

Before any timing the compiled predictors are checked against their definition, and the compiled mixture against tensor operations, forward
and backward, in float64. Times are processor times, so that other processes matter less. The goals are 300,000 samples/s for the default
predictor of order 256; a training step that takes at most 1.15 times as long with prediction, or 1.5 times for the small model of the demo;
and for one stream of a model with about a million parameters 16,000 samples/s, or 20,800 with int8 weights, no sample later than 5 ms, and
likelihoods within 1e-4 nats on average and 5e-3 at worst of those of the forward pass, with weights rounded likewise.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from jsonargparse.typing import PositiveInt
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks.generate import as_stored
from benchmarks.timing import benchmark, by_turns, check, header, ratio, show
from benchmarks.training_speed import gradients_of
from harmonicrnn import load
from harmonicrnn.audio import Quantiser
from harmonicrnn.generation.cpu import CPUEngine
from harmonicrnn.models import HarmonicRNN, LevelSpec, Prediction
from harmonicrnn.models.prediction import DEFAULT_PREDICTORS, LinearPrediction, Predicted
from harmonicrnn.ops.prediction import Predictor, PredictorState, compiled, definition, mixture_batched, mixture_compiled

DEMO = Path(__file__).parents[1] / "configs/melody_demo.yaml"
ORDER, GOAL = 256, 300_000  # samples/s
STEP = {"demo": 1.5, "default": 1.15}  # a training step with prediction, in steps without
REAL_TIME = {"full": 16_000, "int8": 20_800}  # samples/s
LATEST = 5  # ms
OFF, FURTHEST = 1e-4, 5e-3  # nats
MILLION = (LevelSpec(48, 1, 4), LevelSpec(80, 1, 4), LevelSpec(112, 1, 4), LevelSpec(128, 2))
CHECKED = 600  # samples of the clip that are checked


def prediction(samples: PositiveInt = 8_000, repeats: PositiveInt = 7, singles: PositiveInt = 48_000) -> None:
    """Checks and times linear prediction on one clip.

    Args:
        samples: Length of the clip.
        repeats: Timed passes of each case, in turn, after one warm-up pass.
        singles: Samples of a stream that are drawn one by one, for the slowest.
    """
    torch.manual_seed(0)
    quantiser = Quantiser()
    classes = quantiser.encode((tones(samples) + 1) / 2).long()[None]
    layer = LinearPrediction(Prediction(), quantiser.classes)
    layer.set_cells(*quantiser.cells())
    with torch.no_grad():
        predicted, _ = layer(classes)
    check_predictors(layer.centres[classes[0, :CHECKED]])
    check_mixture(layer, Predicted(*(t[:, :CHECKED] for t in predicted)))
    header("numba")
    print(f"clip     1 x {samples:,} samples, {repeats} repeats, processor time")
    x = layer.centres[classes]
    (highest,) = (predictor for predictor in DEFAULT_PREDICTORS if predictor.order == ORDER)
    parts: dict[str, Callable[[], object]] = {
        f"predictor of order {ORDER}": lambda: predictions(highest, x),
        "all default predictors": lambda: [predictions(predictor, x) for predictor in DEFAULT_PREDICTORS],
        "LinearPrediction, forward": torch.no_grad()(lambda: layer(classes)),
        "mixture, forward": torch.no_grad()(lambda: layer.log_probabilities(predicted)),
        "mixture, forward + backward": gradients_of_mixture(layer, predicted),
    }
    for name, seconds in by_turns(parts, repeats, clock=time.process_time).items():
        median = show(name, [samples / s for s in seconds], "samples/s")
        if name == f"predictor of order {ORDER}":
            tell(f"{GOAL:,} samples/s", median >= GOAL)
    training_steps(classes, repeats)
    mixture = HarmonicRNN(MILLION, preset="griffin", heads=4, prediction=Prediction()).eval()
    mixture.set_cells(*quantiser.cells())
    with torch.no_grad():  # as after training; they start at zero, and the likelihood would not depend on the network
        for layer in (mixture.head, mixture.steering):
            layer.weight.normal_(std=0.1)
    for form, net in (("mixture", mixture), ("product with a gate", load("bach").net)):
        one_stream(f"{form}, {sum(parameter.numel() for parameter in net.parameters()):,} parameters", net, samples, repeats, singles)


def training_steps(classes: Tensor, repeats: int) -> None:
    """Times forward + backward with and without prediction, for the model of configs/melody_demo.yaml and the default model."""
    demo = OmegaConf.load(DEMO).model
    models = {
        "demo": {"levels": [LevelSpec(**level) for level in demo.levels], "preset": demo.preset, "heads": demo.heads},
        "default": {},
    }
    steps = {}
    for name, settings in models.items():
        steps[f"{name} model"] = gradients_of(HarmonicRNN(**settings), classes)
        steps[f"{name} model with prediction"] = gradients_of(HarmonicRNN(**settings, prediction=Prediction()), classes)
    seconds = by_turns(steps, repeats, clock=time.process_time)
    for name, values in seconds.items():
        show(f"training step, {name}", [1e3 * s for s in values], "ms", digits=1)
    for name, goal in STEP.items():
        times = ratio(seconds[f"{name} model with prediction"], seconds[f"{name} model"])
        print(f"ratio    {times:.2f} of the {name} model's step")
        tell(f"at most {goal:g} of it", times <= goal)


@torch.inference_mode()
def one_stream(name: str, net: HarmonicRNN, samples: int, repeats: int, singles: int) -> None:
    """Compares the likelihoods of the compiled engine with the forward pass's, and times drawing one stream: as a whole, and `singles`
    samples one by one."""
    _, fresh = net(torch.empty(1, 0, dtype=torch.long))
    engines = {weights: CPUEngine(net, weights, threads=1) for weights in REAL_TIME}
    uniforms = torch.rand(1, samples, dtype=torch.float64)
    for weights, engine in engines.items():
        engine.start(fresh)
        classes, _ = engine.draw(uniforms, 1.0, 1.0)
        engine.start(fresh)
        errors = (engine.follow(classes)[1] - as_stored(net, weights).nats(classes)[0]).abs()
        print(f"{name}, {weights}: likelihoods off by {errors.mean():.1e} nats on average, {errors.max():.1e} at worst")
        tell(f"{OFF:g} nats on average, {FURTHEST:g} at worst", errors.mean().item() <= OFF and errors.max().item() <= FURTHEST)
    draws = {weights: partial(engine.draw, uniforms, 1.0, 1.0) for weights, engine in engines.items()}
    for weights, seconds in by_turns(draws, repeats, clock=time.process_time).items():
        median = show(f"{name}, {weights}", [samples / s for s in seconds], "samples/s")
        tell(f"{REAL_TIME[weights]:,} samples/s", median >= REAL_TIME[weights])
    for weights, engine in engines.items():
        each = []
        for uniform in torch.rand(singles, 1, 1, dtype=torch.float64):
            started = time.process_time()
            engine.draw(uniform, 1.0, 1.0)
            each.append(1e3 * (time.process_time() - started))
        show(f"{name}, {weights}, one by one", each, "ms", digits=2)
        tell(f"at most {LATEST} ms", max(each) <= LATEST)


def tell(goal: str, met: bool) -> None:
    """Prints a goal, and whether it is met."""
    print(f"goal     {goal}: {'met' if met else 'missed'}")


def tones(samples: int) -> Tensor:
    """Returns three partials with a little noise, float32 (samples,) in [-1, 1]."""
    t = torch.arange(samples)
    partials = [0.2 * torch.sin(step * t) for step in (0.05, 0.11, 0.42)]
    return (sum(partials, torch.zeros(samples)) + 0.02 * torch.randn(samples)).clamp(-1, 1)


def predictions(predictor: Predictor, x: Tensor) -> Tensor:
    """Returns the compiled predictions p (B, T + 1) of sequences x (B, T) without earlier samples."""
    history, heard = x.new_zeros(len(x), predictor.order), torch.zeros(len(x), dtype=torch.int64)
    return compiled.predict(predictor, x, history, heard, PredictorState.start(predictor, len(x)))[0]


def check_predictors(x: Tensor) -> None:
    """Raises UnequalError if a compiled predictor differs from its definition on x (T,), float64."""
    for predictor in DEFAULT_PREDICTORS:
        check(f"the predictor of order {predictor.order}", [predictions(predictor, x[None])[0]], [definition.predict(predictor, x)], 1e-8)


def check_mixture(layer: LinearPrediction, predicted: Predicted) -> None:
    """Raises UnequalError if the compiled mixture differs from tensor operations, in log-probabilities or gradients."""
    arguments = predicted.p, predicted.s, layer.log_width.detach().double(), predicted.log_weights, layer.limits, layer.settings.share
    expected = mixture_batched.forward(*arguments)
    grad = torch.randn_like(expected)
    check("the mixture", [mixture_compiled.forward(*arguments)], [expected], 1e-10)
    gradients = (form.backward(*arguments, expected, grad) for form in (mixture_compiled, mixture_batched))
    check("the mixture's gradients", *gradients, 1e-8)


def gradients_of_mixture(layer: LinearPrediction, predicted: Predicted) -> Callable[[], object]:
    """Returns a function that computes the log-probabilities and the gradients of all their inputs."""
    p, s, log_weights = (t.clone().requires_grad_() for t in (predicted.p, predicted.s, predicted.log_weights))
    leaves = (p, s, log_weights, layer.log_width)
    moved = predicted._replace(p=p, s=s, log_weights=log_weights)
    weights = torch.randn(*p.shape[:2], layer.classes)
    return lambda: torch.autograd.grad(layer.log_probabilities(moved), leaves, weights)


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(benchmark(prediction))
