"""Tests of the graph engine step by step on the CPU, in float64; on a GPU the steps are one graph, which `benchmarks.gpu` checks."""

import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harmonicrnn.generation.engine import PlainEngine, steps
from harmonicrnn.generation.graph_engine import GraphEngine
from harmonicrnn.generation.self_check import EngineError
from harmonicrnn.models import HarmonicRNN, LevelSpec, Prediction
from harmonicrnn.ops import Choice
from harmonicrnn.ops.prediction import Predictor
from tests.harmonicrnn.generation.test_cpu_engine import LAYOUTS, name
from tests.harmonicrnn.models.test_harmonic_rnn import make_classes, make_model
from tests.helpers import F64, relative_error

LEVELS = (LevelSpec(24, 1, 2), LevelSpec(48, 1, 3), LevelSpec(16, 1))


def uniforms(lanes, samples):
    return torch.rand(lanes, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def state_after(net, classes):
    with torch.inference_mode():
        return net(classes)[1]


# The steps are the model's own: the suite tries one layout of each kind of recurrence, shift, norm and preset.
STEPPED = [each for each in LAYOUTS if "prediction" not in each]
FEW = LAYOUTS[8:12]


@pytest.mark.parametrize("changes", [pytest.param(each, marks=() if each in FEW else pytest.mark.slow) for each in STEPPED], ids=name)
def test_draws_what_the_plain_engine_draws(changes):
    """Starts at any phase of the windows, over whole periods of 6 samples and parts of one."""
    net = make_model(**({"levels": LEVELS} | changes))
    for parameter in net.parameters():  # moves norms, biases and decays away from their initial values
        torch.nn.init.normal_(parameter, std=0.3) if parameter.dim() == 1 else None
    engine, plain = GraphEngine(net), PlainEngine(net)
    for prompt in (0, 1, 8):
        for each in (engine, plain):
            each.start(state_after(net, make_classes(3, prompt, net.classes)))
        for samples in (0, 12, 7, 6):
            classes, nats = engine.draw(uniforms(3, samples), 0.9, 0.8)
            expected, expected_nats = plain.draw(uniforms(3, samples), 0.9, 0.8)
            assert torch.equal(classes, expected)
            assert not samples or relative_error(nats, expected_nats) < F64


@pytest.mark.parametrize("factors", [(2, 5, 1), pytest.param((2, 4, 4, 5, 1), marks=pytest.mark.slow)], ids=str)
def test_follows_the_forward_pass_in_float32(factors):
    """Compares with the likelihood of the parallel pass; the longer period, of 160, is the default model's."""
    net = make_model(levels=tuple(LevelSpec(32, 1, p) for p in factors), dtype=torch.float32)
    read = net.pooling_product + 1
    prompt, engine = make_classes(7, read), GraphEngine(net)
    engine.start(state_after(net, prompt))
    classes, nats = engine.draw(uniforms(7, 2 * net.pooling_product), 1.0, 1.0)
    with torch.inference_mode():
        logits, _ = net(torch.cat([prompt, classes], dim=1))
    expected = -torch.log_softmax(logits[:, read:].double(), dim=-1).gather(2, classes[..., None])[..., 0]
    assert relative_error(nats, expected) < 1e-4


def test_starting_again_gives_the_same_bytes_and_other_lanes_their_own():
    net = make_model(levels=LEVELS)
    engine, drawn = GraphEngine(net), []
    for lanes in (4, 4, 2):
        engine.start(state_after(net, make_classes(4, 8)).map(lambda tensor, lanes=lanes: tensor[:lanes]))
        drawn.append(engine.draw(uniforms(4, 13)[:lanes], 1.0, 1.0)[0])
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0][:2], drawn[2])


def test_a_period_is_kept_for_all_that_it_fits():
    """Making a graph takes time on a GPU; other clips of a run reuse it, other temperatures must not."""
    net = make_model(levels=LEVELS)
    engine, state = GraphEngine(net), state_after(net, make_classes(2, 8))
    engine.start(state)
    first = engine.draw(uniforms(2, 12), 1.0, 1.0)
    kept = engine._graph
    engine.start(state)
    assert torch.equal(engine.draw(uniforms(2, 12), 1.0, 1.0)[0], first[0])
    assert engine._graph is kept
    engine.start(state)
    greedy, _ = engine.draw(uniforms(2, 12), 0.0, 1.0)
    assert engine._graph is not kept
    assert not torch.equal(greedy, first[0])


def test_draws_only_after_a_start():
    with pytest.raises(RuntimeError, match="given a state"):
        GraphEngine(make_model(levels=LEVELS[2:])).draw(torch.zeros(1, 1, dtype=torch.float64), 1.0, 1.0)


class Operations(TorchDispatchMode):
    """Counts the operations that compute something."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        results = result if isinstance(result, tuple | list) else (result,)
        made = any(each.numel() for each in results if isinstance(each, torch.Tensor))
        self.count += made and not function.is_view and "empty" not in function.name() and function.name() != "aten::detach"
        return result


def test_operations_of_a_sample_on_a_gpu(monkeypatch):
    """Checks the number in docs/speed.md for one stream: there the recurrence is one operation, and its gates are three more than here."""
    monkeypatch.setattr(sys.modules["harmonicrnn.ops.cg_lru"], "choose", lambda *_: Choice("triton", ""))
    monkeypatch.setattr("harmonicrnn.ops.fused.cg_lru", lambda x, gates, rates, phases, h0, *_: (x.clone(), h0))
    net = HarmonicRNN().eval()
    # A period is 20 windows of 8 samples; these stand for all with the same place in the windows of 32 and of 160.
    like, count = {0: 5, 1: 5, 2: 5, 3: 1, 7: 3, 19: 1}, 0
    with torch.inference_mode():
        for window, windows in like.items():
            state = net(torch.zeros(1, 8 * window, dtype=torch.long))[1]
            with Operations() as operations:
                steps(net, state, uniforms(1, 8), 1.0, 1.0)
            count += windows * operations.count
    # For levels of 8 blocks, stepped every 1, 2, 8 and 32 samples, and 4 blocks every 160.
    blocks = 8 * (1 + 1 / 2 + 1 / 8 + 1 / 32) + 4 / 160
    assert count / net.pooling_product + 3 * blocks == pytest.approx(423, abs=5)


def test_a_model_with_prediction_is_left_to_the_plain_engine():
    with pytest.raises(EngineError, match="linear prediction"):
        GraphEngine(make_model(prediction=Prediction((Predictor(3, 0.9, 4),))))
