"""Tests of the compiled CPU engine against the forward pass and the plain engine."""

import errno
import mmap
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.generate import as_stored
from harmonicrnn import load
from harmonicrnn.audio.folders import find_recordings
from harmonicrnn.generation.cpu import CPUEngine
from harmonicrnn.generation.cpu.addresses import large_pages
from harmonicrnn.generation.cpu.cpu_engine import available_cores
from harmonicrnn.generation.cpu.worker import Worker
from harmonicrnn.generation.engine import PlainEngine
from harmonicrnn.models import LevelSpec, Prediction
from harmonicrnn.ops.prediction import Predictor
from tests.harmonicrnn.models.test_harmonic_rnn import PAPER, make_classes, make_model
from tests.helpers import F64, relative_error

# The default model's pooling of 160 samples, with a width of 32.
DEEP = tuple(LevelSpec(32, 1, p) for p in (2, 4, 4, 5, 1))
PREDICTORS = (Predictor(3, 0.9, 4), Predictor(40, 0.99, 16))
PRODUCT = Prediction(PREDICTORS, input=False, floor=1e-4)
GATE = Prediction(PREDICTORS, input=False, floor=0.05, gate=True, kept=0.1)
LAYOUTS = [
    {},
    {"recurrence": "real"},
    {"recurrence": "none"},
    {"shift": "frame"},
    {"recurrence": "real", "shift": "frame"},
    {"recurrence": "none", "shift": "frame"},
    {"embedding": "learned", "conv_width": 1, "heads": 1},
    {"conv_width": 2, "groups": 8, "heads": 4, "expansion": 2, "bits": 8},
    PAPER | {"heads": 8},
    PAPER | {"recurrence": "real", "conv_width": 3, "groups": 2, "shift": "frame"},
    PAPER | {"recurrence": "none", "conv_width": 2, "unit_first_step": True},
    {"norm": "layer", "recurrence_expansion": 2, "conv_width": 0},
    {"prediction": Prediction(PREDICTORS)},
    {"prediction": Prediction(PREDICTORS[:1], input=False), "embedding": "learned", "bits": 8},
    {"prediction": Prediction(PREDICTORS, logits=False, widths=(0.7,))},
    {"prediction": PRODUCT},
    {"prediction": GATE},
    {"prediction": Prediction(PREDICTORS), "bits": 12},
]


# Weights are shared by one thread, two, and more than there may be cores; every layout is tried with two.
THREADS = {1: LAYOUTS[:1], 2: LAYOUTS, 3: [LAYOUTS[8], LAYOUTS[12]]}


def name(changes):
    return "-".join(key if key == "prediction" else str(value) for key, value in changes.items()) or "default"


def follow(engine, net, classes, prompt):
    """Returns the relative errors, against the forward pass, of logits, nats and final state for the classes after the first `prompt`."""
    with torch.inference_mode():
        _, state = net(classes[:, :prompt])
        expected, end = net(classes[:, prompt:], state)
        engine.start(state)
        logits, nats = engine.follow(classes[:, prompt:])
        left = engine.state()
        chosen = -torch.log_softmax(expected.double(), dim=-1).gather(2, classes[:, prompt:, None])[..., 0]
    return relative_error(logits, expected), relative_error(nats, chosen), state_error(left, end)


def state_error(state, expected):
    """Returns the largest relative error of a state's tensors; all flags and phases must be equal."""
    ours, theirs = [], []
    state.map(lambda t: ours.append(t) or t)
    expected.map(lambda t: theirs.append(t) or t)
    worst, level, expected_level = 0.0, *(getattr(each.levels, "levels", each.levels) for each in (state, expected))
    while hasattr(level, "phase"):
        assert level.phase == expected_level.phase
        level, expected_level = level.inner, expected_level.inner
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        if a.is_floating_point():
            worst = max(worst, relative_error(a, b))
        else:
            assert torch.equal(a, b)
    return worst


@pytest.fixture(scope="module")
def deep():
    net = make_model(levels=DEEP, dtype=torch.float32)
    return net, CPUEngine(net, threads=1)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("prompt", [0, 1, 159, 160, 161, 1603])
def test_equals_the_forward_pass_after_any_prompt(prompt, batch, deep):
    net, engine = deep
    assert max(follow(engine, net, make_classes(batch, prompt + 330), prompt)) < 1e-4


@pytest.mark.parametrize("changes", [*LAYOUTS[:-1], pytest.param(LAYOUTS[-1], marks=pytest.mark.slow)], ids=name)
def test_equals_the_forward_pass_in_every_layout(changes):
    settings = {"levels": DEEP} | changes
    net = make_model(dtype=torch.float32, **settings)
    engine = CPUEngine(net, threads=1)
    for batch, samples in ((1, 330), (7, 170)):
        assert max(follow(engine, net, make_classes(batch, 161 + samples, net.classes), 161)) < 1e-4


@pytest.mark.parametrize(
    ("changes", "threads"),
    [
        pytest.param(changes, threads, id=f"{name(changes)}-{threads}", marks=() if changes in layouts else pytest.mark.slow)
        for threads, layouts in THREADS.items()
        for changes in LAYOUTS
    ],
)
def test_equals_the_forward_pass_in_float64(changes, threads):
    levels = (LevelSpec(24, 2, 2), LevelSpec(48, 1, 3), LevelSpec(16, 1))
    net = make_model(levels=levels, **changes)
    for parameter in net.parameters():  # moves norms, biases and decays away from their initial values
        nn.init.normal_(parameter, std=0.3) if parameter.dim() == 1 else None
    engine = CPUEngine(net, threads=threads)
    for prompt in (0, 1, 5, 6, 7):
        assert max(follow(engine, net, make_classes(5, prompt + 18, net.classes), prompt)) < F64


def test_a_predictor_of_order_256_over_several_solutions():
    net = make_model(prediction=Prediction((Predictor(256, 0.999, 80),)))
    engine = CPUEngine(net, threads=1)
    for prompt in (0, 79, 80, 333):
        assert max(follow(engine, net, make_classes(2, prompt + 400), prompt)) < F64


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["full", "bfloat16", "int8"])
def test_likelihoods_of_a_recording_are_those_of_the_forward_pass(stored):
    """The voice has a gate and a predictor of order 256; the forward pass has weights that are rounded likewise."""
    voice = load("bach")
    classes = voice.classes(find_recordings(Path(__file__).parents[3] / "demo/test")[0])[None, :16_000].long()
    engine, rounded_net = CPUEngine(voice.net, stored, threads=1), as_stored(voice.net, stored)
    with torch.inference_mode():
        engine.start(rounded_net(classes[:, :0])[1])
        expected, _ = rounded_net.nats(classes)
    errors = (engine.follow(classes)[1] - expected).abs()
    assert classes.shape == (1, 16_000)
    assert errors.mean() <= 1e-5
    assert errors.max() <= 5e-4


def test_a_gate_after_silence_and_bursts():
    """The numbers that the gate hears reach their bounds."""
    net = make_model(prediction=GATE)
    classes = torch.full((2, 400), 16)
    classes[1, 200::3] = 31
    assert max(follow(CPUEngine(net, threads=2), net, classes, 7)) < F64


@pytest.mark.parametrize(("temperature", "top_p"), [(0, 1), (1, 1), (0.7, 0.9), (2, 0.3), (1, 1e-6)])
def test_draws_what_the_plain_engine_draws(temperature, top_p):
    net = make_model()
    with torch.inference_mode():
        _, state = net(make_classes(3, 7))
    uniforms = torch.rand(3, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    engine, plain = CPUEngine(net, threads=2), PlainEngine(net)
    for part in uniforms.split([1, 0, 20, 9], dim=1):
        for each in (engine, plain):
            each.start(state)
        classes, nats = engine.draw(part, temperature, top_p)
        expected, expected_nats = plain.draw(part, temperature, top_p)
        assert torch.equal(classes, expected)
        assert relative_error(nats, expected_nats) < F64
        state = engine.state()


@pytest.mark.parametrize("stored", ["full", "bfloat16", "int8"])
def test_a_lane_is_the_same_to_the_bit_whatever_the_others(stored):
    net = make_model(levels=[LevelSpec(64, 1, spec.factor) for spec in DEEP], dtype=torch.float32)
    engine = CPUEngine(net, stored, threads=1)
    classes = make_classes(6, 200)
    with torch.inference_mode():
        _, fresh = net(classes[:, :0])
    engine.start(fresh)
    together, _ = engine.follow(classes)
    for lane in range(6):
        own = slice(lane, lane + 1)
        engine.start(fresh.map(lambda t, own=own: t[own]))
        assert torch.equal(together[own], engine.follow(classes[own])[0])


def test_what_workers_know_by_its_address_lives_as_long_as_they_do():
    net = make_model()
    engine = CPUEngine(net, threads=2)
    for lanes in (2, 3):
        with torch.inference_mode():
            engine.start(net(make_classes(lanes, 7))[1])
        for worker in engine._workers:
            assert worker._me["flags"] == engine._team.flags.ctypes.data
            assert worker._me["logits"] == engine._team.logits.array.ctypes.data


def test_lanes_that_are_reset_begin_anew():
    net = make_model()
    engine, classes = CPUEngine(net, threads=1), make_classes(2, 30)
    with torch.inference_mode():
        _, state = net(classes[:, :12])
        state = state.reset(torch.tensor([True, False]))
        engine.start(state)
        assert relative_error(engine.follow(classes[:, 12:])[0], net(classes[:, 12:], state)[0]) < F64


@pytest.mark.parametrize(("stored", "width", "limit"), [("bfloat16", 32, 1e-4), ("int8", 64, 1e-4)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        PAPER | {"heads": 8},
        {"prediction": Prediction(PREDICTORS)},
        {"prediction": GATE},
    ],
    ids=["griffin", "paper", "mixture", "gate"],
)
def test_weights_in_fewer_bits_are_the_rounded_ones(changes, stored, width, limit):
    net = make_model(levels=(LevelSpec(width, 2, 5), LevelSpec(width, 1)), dtype=torch.float32, **changes)
    rounded_net, classes = as_stored(net, stored), make_classes(5, 260)
    for threads in (1, 2):
        # int8 also rounds the inputs of products, to 24 bits.
        assert max(follow(CPUEngine(net, stored, threads), rounded_net, classes, 161)) < limit
    assert relative_error(rounded_net(classes)[0], net(classes)[0]) > 2 * limit


@pytest.mark.parametrize("stored", ["full", "bfloat16", "int8"])
def test_the_model_is_itself_while_an_engine_of_it_is_made(stored, monkeypatch):
    """Another thread may use the model meanwhile: norms are folded, and weights rounded, in a copy."""
    net = make_model(levels=(LevelSpec(64, 1, 5), LevelSpec(64, 1)), dtype=torch.float32)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3) if parameter.dim() == 1 else None
    classes, meanwhile = make_classes(2, 50), []
    before = net(classes)[0]

    def made(program):
        meanwhile.append(net(classes)[0])
        return Worker(program)

    monkeypatch.setattr("harmonicrnn.generation.cpu.cpu_engine.Worker", made)
    CPUEngine(net, stored, threads=2)
    assert len(meanwhile) == 2
    assert all(torch.equal(logits, before) for logits in meanwhile)


def test_weights_are_laid_out_where_there_are_no_large_pages(monkeypatch):
    class Refusing(mmap.mmap):
        def madvise(self, *_):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("harmonicrnn.generation.cpu.addresses.mmap.mmap", Refusing)
    assert len(large_pages(100)) >= 100


def test_counts_all_cores_where_the_system_does_not_tell_those_of_a_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 6})
    assert available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert available_cores() == 12


def test_refuses_what_it_cannot_step():
    with pytest.raises(ValueError, match=r"float32 or float64 on the CPU, not in torch\.bfloat16 on cpu"):
        CPUEngine(make_model(dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="on meta"):
        CPUEngine(make_model().to("meta"))
    with pytest.raises(ValueError, match=r"int8 only for models in float32, not in torch\.float64"):
        CPUEngine(make_model(), "int8")
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        CPUEngine(make_model(), threads=0)
    with pytest.raises(RuntimeError, match="given a state"):
        CPUEngine(make_model()).draw(torch.zeros(1, 1, dtype=torch.float64), 1.0, 1.0)
