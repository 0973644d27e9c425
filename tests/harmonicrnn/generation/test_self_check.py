"""Tests of the check of engines before their first use: wrong or unsuitable ones are refused, and the plain engine is used instead."""

from functools import partial
from weakref import WeakKeyDictionary

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harmonicrnn.generation import PlainEngine, generate, make_engine, self_check
from harmonicrnn.generation.cpu import CPUEngine
from harmonicrnn.generation.graph_engine import GraphEngine
from harmonicrnn.generation.self_check import EngineError
from harmonicrnn.models import GatedRecurrence, HarmonicRNN, LevelSpec, Prediction
from harmonicrnn.models.block import ResidualBranch
from harmonicrnn.models.wavenet import WaveNet
from tests.harmonicrnn.models.test_harmonic_rnn import PAPER, make_classes, make_model
from tests.helpers import relative_error

LEVELS = (LevelSpec(32, 1, 2), LevelSpec(32, 1, 3), LevelSpec(32, 1))


class OtherActivation(ResidualBranch):
    def forward(self, x, *state):
        u = self.norm(x)
        gate = F.silu(self.gate(u))
        if not state:
            return x + self.output(gate * self.layer(u))
        mixed, after = self.layer(u, *state)
        return x + self.output(gate * mixed), after


class OtherGate(GatedRecurrence):
    def _gates(self, x):
        return super()._gates(x).clamp(min=0)


class Negated(nn.Linear):
    def forward(self, x):
        return -super().forward(x)


def make(edit=lambda net: None):
    net = make_model(levels=LEVELS, dtype=torch.float32, **PAPER | {"heads": 8})
    edit(net)
    return net


def of_class(kind, other):
    """Returns an edit that changes the class of a net's last layer of a kind, and keeps its weights."""

    def edit(net):
        [*_, layer] = [layer for layer in net.modules() if type(layer) is kind]
        layer.__class__ = other

    return edit


def in_place(net):
    layer = net.levels.post.blocks[0].mlp
    layer.forward = partial(OtherActivation.forward, layer)


EDITS = [
    (of_class(ResidualBranch, OtherActivation), r"no compiled code for levels\.post\.blocks\.0\.mlp \(OtherActivation\)"),
    (of_class(GatedRecurrence, OtherGate), r"no compiled code for levels\.post\.blocks\.0\.mixer\.layer\.recurrence \(OtherGate\)"),
    (of_class(nn.Linear, Negated), r"no compiled code for head \(Negated\)"),
    (in_place, "differ from the forward pass's"),
]


@pytest.mark.parametrize(("edit", "message"), EDITS)
def test_an_edited_layer_is_noticed_and_the_plain_engine_draws(edit, message):
    net = make(edit)
    with pytest.warns(UserWarning, match=message):
        engine = make_engine(net)
    assert isinstance(engine, PlainEngine)
    classes = generate(net, 10, clips=2, engine=engine)
    assert not torch.equal(classes, generate(make(), 10, clips=2))
    state = net(classes[:, :0])[1]
    engine.start(state)
    drawn, nats = engine.draw(torch.rand(2, 10, dtype=torch.float64), 1.0, 1.0)
    with torch.no_grad():
        expected = F.cross_entropy(net(drawn)[0].double().transpose(1, 2), drawn, reduction="none")
    assert relative_error(nats, expected) < 1e-5


def without_norm(net):
    net.levels.pre.blocks[0].mlp.norm = nn.Identity()


def without_bias(net):
    net.levels.pre.blocks[0].mixer.gate.bias = None


def of_several_layers(net):
    net.levels.pre.blocks[0].mixer.gate = nn.Sequential(net.levels.pre.blocks[0].mixer.gate)


def with_a_shared_norm(net):
    net.levels.pre.blocks[0].mlp.norm = net.levels.pre.blocks[0].mixer.norm


def with_a_head_of_several_layers(net):
    net.head = nn.Sequential(net.head)


PARTS = [
    (without_norm, r"levels\.pre\.blocks\.0\.mlp\.norm \(Identity\)"),
    (without_bias, r"levels\.pre\.blocks\.0\.mixer\.gate \(Linear\)"),
    (of_several_layers, r"levels\.pre\.blocks\.0\.mixer\.gate \(Sequential\)"),
    (with_a_shared_norm, r"levels\.pre\.blocks\.0\.mixer\.norm \((Layer|RMS)Norm\)"),
    (with_a_head_of_several_layers, r"head \(Sequential\)"),
]


@pytest.mark.parametrize("stored", ["full", "int8"])
@pytest.mark.parametrize(("edit", "name"), PARTS)
def test_parts_of_a_layer_are_known_or_named_too(edit, name, stored):
    with pytest.raises(EngineError, match=f"no compiled code for {name}"):
        CPUEngine(make(edit), stored)


def test_a_layer_that_is_edited_after_an_engine_was_made_is_tried_again():
    net = make()
    make_engine(net)
    in_place(net)
    with pytest.raises(EngineError, match="differ from the forward pass's"):
        CPUEngine(net)


def test_a_model_of_a_derived_class_and_in_training_is_stepped_as_it_evaluates(recwarn):
    class Own(HarmonicRNN):
        pass

    net = Own(LEVELS, heads=8, dropout=0.5).train()
    assert isinstance(make_engine(net), CPUEngine)
    assert not recwarn.list
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("recurrence", ["lti", "gru"])
def test_an_unknown_layer_is_named(recurrence):
    net = make_model(levels=LEVELS, dtype=torch.float32, recurrence=recurrence)
    name = {"lti": "DiagonalRecurrence", "gru": "GRURecurrence"}[recurrence]
    with pytest.warns(UserWarning, match=rf"no compiled code for levels\.pre\.blocks\.0\.mixer\.layer\.recurrence \({name}\)"):
        assert isinstance(make_engine(net), PlainEngine)


def test_another_model_is_named():
    with pytest.warns(UserWarning, match="no compiled code for WaveNet"):
        assert isinstance(make_engine(WaveNet(width=16, skip=16, cycle=2, cycles=1)), PlainEngine)


@pytest.mark.parametrize("stored", ["full", "bfloat16", "int8"])
def test_a_mistake_of_the_engine_is_noticed_and_the_model_keeps_its_weights(stored, monkeypatch):
    net = make_model(levels=LEVELS, dtype=torch.float32)
    nn.init.uniform_(net.head_norm.weight, 0.5, 2)
    before = {name: weights.clone() for name, weights in net.state_dict().items()}
    CPUEngine(net, stored)
    monkeypatch.setattr(self_check, "_passed", WeakKeyDictionary())
    monkeypatch.setattr("harmonicrnn.generation.cpu.layers.harmonic_rnn_steps.fold", lambda norm, *layers: None)
    with pytest.raises(EngineError, match=f"CPU engine with {stored} weights"):
        CPUEngine(net, stored)
    assert all(torch.equal(weights, before[name]) for name, weights in net.state_dict().items())


def test_is_tried_once_for_the_same_weights(monkeypatch):
    net, tried = make_model(levels=LEVELS, dtype=torch.float32), []
    monkeypatch.setattr(self_check, "difference", lambda *_: tried.append(1) or 0.0)
    for stored in ("full", "full", "int8", "int8", "full"):
        CPUEngine(net, stored, threads=1)
    assert len(tried) == 2
    with torch.no_grad():
        net.head.bias.add_(1)
    CPUEngine(net, threads=1)
    assert len(tried) == 3


def test_the_forward_pass_is_not_compiled_for_it(monkeypatch):
    """It is not compiled for a start without a prompt either, as the first sound would wait for it."""
    for kernels in ("harmonicrnn.ops.cpu", "harmonicrnn.ops.prediction.mixture_compiled"):
        monkeypatch.setattr(f"{kernels}.forward", lambda *_: pytest.fail("compiled"))
    net = make_model(levels=LEVELS, dtype=torch.float32, prediction=Prediction(), **PAPER | {"heads": 8})
    assert generate(net, 5).shape == (1, 5)


def test_leaves_the_global_random_state_alone():
    net, before = make_model(levels=LEVELS, dtype=torch.float32), torch.get_rng_state()
    make_engine(net)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_that_is_not_finite_is_left_to_who_draws(recwarn):
    net = make_model(levels=LEVELS, dtype=torch.float32)
    nn.init.constant_(net.head.bias, float("nan"))
    assert isinstance(make_engine(net), CPUEngine)
    assert not recwarn.list


def test_a_graph_that_steps_otherwise_than_the_forward_pass_is_refused():
    net = make_model(levels=LEVELS[2:], dtype=torch.float32)
    forward = net.forward
    net.forward = lambda classes, state=None: forward(classes, state if classes.shape[1] != 1 else state.reset(torch.ones(2, dtype=bool)))
    with pytest.raises(EngineError, match="graph engine"):
        GraphEngine(net)
    net.forward = forward
    GraphEngine(net).start(net(make_classes(2, 3))[1])
