"""Samples per second of generation on the CPU.

    python -m benchmarks.generate [--samples N] [--repeats N] [--threads N] [--prompt N] [--plain N] [--preset griffin] [--ckpt_path FILE]

Before a case is timed, the engine's logits on samples drawn from the model are compared with those of the parallel forward pass with the
same rounded weights. The cost of weights in fewer bits is measured on these samples, for a trained model if a checkpoint is given. With
`--repeats 0` nothing is timed. Generation on a GPU: `python -m benchmarks.gpu --only generation`.
"""

import copy
import math
from pathlib import Path

import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from benchmarks.timing import benchmark, by_turns, check, header, show
from harmonicrnn import load
from harmonicrnn.generation.cpu import CPUEngine
from harmonicrnn.generation.engine import PlainEngine
from harmonicrnn.generation.sampler import PROMPT_CHUNK, read_prompt
from harmonicrnn.models import DownPool, GatedRecurrence, HarmonicRNN, ModelState, UpPool
from harmonicrnn.models.block import ResidualBranch, TemporalMixer
from harmonicrnn.models.presets import Preset

STEPS = 8000  # samples per timing, over all streams; about a second for one stream
PIECE = 1600  # samples compared at a time
LIMIT = 1e-4  # relative
STORED = ("full", "bfloat16", "int8")
MIN_INT8 = 64  # layers with fewer inputs keep their weights in bfloat16
CASES = tuple((stored, streams) for streams in (1, 32) for stored in STORED)


def generate(
    samples: PositiveInt = 16_000,
    repeats: NonNegativeInt = 7,
    threads: PositiveInt = 2,
    prompt: PositiveInt = 960_000,
    plain: PositiveInt = 300,
    preset: Preset = "paper",
    ckpt_path: Path | None = None,
) -> None:
    """Checks and times generation.

    Args:
        samples: Samples per stream in the checks; a timing runs for about a second instead.
        repeats: Timings of each case; 0 only runs the checks.
        threads: Threads of the engine.
        prompt: Samples of the prompt.
        plain: Steps of the plain engine, for comparison.
        preset: Block of the untrained model of configs/sc09.yaml.
        ckpt_path: Checkpoint of a trained model to use instead.
    """
    torch.manual_seed(0)
    net = make_net(preset) if ckpt_path is None else load(ckpt_path).net
    header("numba")
    print(f"model    {sum(p.numel() for p in net.parameters()):,} parameters, {threads} threads, {repeats} repeats\n")
    reference = CPUEngine(net, threads=threads)
    reference.start(fresh(net, 32))
    drawn, _ = reference.draw(torch.rand(32, samples, dtype=torch.float64), 1.0, 1.0)
    for stored, streams in CASES:
        engine = CPUEngine(net, stored, threads)  # type: ignore[arg-type]
        check_engine(net, engine, drawn[:streams], stored)
        if repeats:
            uniforms = torch.rand(streams, max(160, STEPS // streams // 160 * 160), dtype=torch.float64)
            name = f"{streams} streams, {stored}"
            seconds = by_turns({name: lambda engine=engine, uniforms=uniforms: engine.draw(uniforms, 1.0, 1.0)}, repeats)[name]
            show(name, [uniforms.numel() / s for s in seconds], "samples/s")
    slow, classes = PlainEngine(net), torch.randint(net.classes, (1, prompt))
    check_plain(net, slow, plain)
    check_prompt(net, classes)
    if repeats:
        pieces = classes.split(PROMPT_CHUNK, dim=1)
        cases = {
            "1 stream, plain engine": (plain, lambda: slow.draw(torch.rand(1, plain), 1.0, 1.0)),
            f"prompt of {prompt:,}": (prompt, lambda: read_prompt(net, pieces)),
            "forward pass of a piece": (pieces[0].shape[1], torch.inference_mode()(lambda: net(pieces[0]))),
        }
        for name, seconds in by_turns({name: function for name, (_, function) in cases.items()}, repeats).items():
            show(name, [cases[name][0] / s for s in seconds], "samples/s")


def make_net(preset: Preset) -> HarmonicRNN:
    """Returns the untrained model."""
    return HarmonicRNN(preset=preset).eval()


@torch.inference_mode()
def fresh(net: HarmonicRNN, streams: int) -> ModelState:
    """Returns the initial state of `streams` lanes."""
    return net(torch.zeros(streams, 0, dtype=torch.long))[1]


@torch.inference_mode()
def check_engine(net: HarmonicRNN, engine: CPUEngine, drawn: Tensor, stored: str) -> None:
    """Compares the engine's logits with those of the forward pass with the same rounded weights, and prints the cost of the rounding.

    The cost is the mean KL divergence from the unrounded to the rounded model's next-sample distribution, in bits/sample.

    Args:
        net: The model with unrounded weights.
        engine: Engine with weights in `stored`.
        drawn: Classes (streams, T).
        stored: "full", "bfloat16" or "int8".

    Raises:
        UnequalError: If the logits differ.
    """
    engine.start(fresh(net, len(drawn)))
    rounded_net = as_stored(net, stored)
    exact, state = fresh(net, len(drawn)), fresh(rounded_net, len(drawn))
    error, divergence = 0.0, 0.0
    for part in drawn.split(PIECE, dim=1):
        logits, _ = engine.follow(part)
        (expected, exact), (rounded, state) = net(part, exact), rounded_net(part, state)
        error = max(error, check(f"the engine with weights in {stored}", [logits], [rounded], LIMIT))
        ours, theirs = (torch.log_softmax(each.double(), dim=-1) for each in (logits, expected))
        divergence += (theirs.exp() * (theirs - ours)).sum().item()
    cost = divergence / drawn.numel() / math.log(2)
    print(
        f"{len(drawn)} streams, {stored}: logits differ by {error:.1e} from the forward pass with such weights over {drawn.shape[1]:,} "
        f"samples each, the weights cost {cost:.1e} bits/sample"
    )


@torch.inference_mode()
def check_plain(net: HarmonicRNN, engine: PlainEngine, samples: int) -> None:
    """Raises UnequalError if the plain engine's likelihoods of its samples differ from those of the forward pass."""
    engine.start(fresh(net, 1))
    classes, nats = engine.draw(torch.rand(1, samples, dtype=torch.float64), 1.0, 1.0)
    check("the plain engine", [nats], [net.nats(classes)[0]], LIMIT)


@torch.inference_mode()
def check_prompt(net: HarmonicRNN, classes: Tensor) -> None:
    """Raises UnequalError if the logits after a prompt read in pieces differ from those of a single forward pass."""
    after = max(1, min(classes.shape[1] // 4, PIECE))
    classes = classes[:, : PROMPT_CHUNK + 2 * after]
    given = classes[:, :-after]
    logits, _ = net(classes[:, -after:], read_prompt(net, given.split(max(1, given.shape[1] * 2 // 3), dim=1)))
    check("what follows the prompt", [logits], [net(classes)[0][:, -after:]], LIMIT)


@torch.no_grad()
def as_stored(net: HarmonicRNN, stored: str) -> HarmonicRNN:
    """Returns a copy of the model with weights rounded as the engine stores them: "full", "bfloat16" or "int8"."""
    net = copy.deepcopy(net)
    if stored == "full":
        return net
    _join(net.head_norm, *filter(None, (net.head, net.steering, net.gate and net.gate.state)))
    kept = {net.embedding.projection, *(net.features.modules() if net.features else ())}  # lookup tables in the engine
    kept |= {net.gate.errors, net.gate.out} if net.gate else set()
    for module in net.modules():
        if isinstance(module, ResidualBranch):
            _join(module.norm, module.gate, module.layer.input if isinstance(module.layer, TemporalMixer) else module.layer)
    for module in net.modules():
        if isinstance(module, nn.Linear) and module not in kept:
            module.weight.copy_(rounded(module.weight.T, stored).T)
        elif isinstance(module, DownPool | UpPool) and 1 not in module.weight.shape[1:]:  # single-channel groups are not rounded
            module.weight.copy_(rounded(module.weight, stored))
        elif isinstance(module, GatedRecurrence):
            module.gate_weight.copy_(rounded(module.gate_weight, stored))
    return net


def _join(norm: nn.Module, *layers: nn.Linear) -> None:
    """Folds a norm's weight and bias into the layers after it, in place; the engine rounds the product of both weights."""
    for layer in layers:
        if isinstance(norm, nn.LayerNorm):
            layer.bias += layer.weight @ norm.bias
        layer.weight *= norm.weight
    nn.init.ones_(norm.weight)
    if isinstance(norm, nn.LayerNorm):
        nn.init.zeros_(norm.bias)


def rounded(weights: Tensor, stored: str) -> Tensor:
    """Rounds matrices (..., inputs, outputs); int8 has a scale for each output."""
    if stored == "bfloat16" or weights.shape[-2] < MIN_INT8:
        return weights.bfloat16().float()
    scale = weights.abs().amax(dim=-2, keepdim=True) / 127
    return (weights / scale).round() * scale


if __name__ == "__main__":
    raise SystemExit(benchmark(generate))
