"""Tests of torch.compile around the model: equal to the plain model, compiled once, and not used where it is wrong."""

import shutil
import warnings
from dataclasses import replace

import lightning as L
import pytest
import torch

from datamodules import Batch
from harmonicrnn.models import DropoutPlace, HarmonicRNN, LevelSpec, set_dropout_place
from lightning_modules import HarmonicModule, compiled_forward
from lightning_modules.compiled_forward import CompiledForward
from tests.helpers import relative_error
from tests.lightning_modules.test_harmonic import make_module

LEVELS, ONE_BLOCK = (LevelSpec(8, 1, 2), LevelSpec(12, 1)), (LevelSpec(8, 1),)
COMPILER = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")


@pytest.fixture(autouse=True)
def backend(monkeypatch):
    """Runs the traced graph as it is, without code generation, which takes minutes; clears earlier compilations."""
    torch._dynamo.reset()
    monkeypatch.setattr(compiled_forward, "BACKEND", "eager")


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the compiled model")
        yield


def make_net(preset="paper", recompute=False, levels=ONE_BLOCK):
    torch.manual_seed(0)
    levels = [replace(level, recompute=recompute) for level in levels]
    return HarmonicRNN(levels, preset=preset, bits=5, heads=2, groups=4, dropout=0.3).double()


def begin(net, lanes=2, step=0):
    set_dropout_place(net, DropoutPlace.of(net, 1, step, torch.arange(lanes), torch.full((lanes,), 6 * step)))


def outcome(net, forward, classes, state=None):
    logits, after = forward(classes, state)
    return logits, after.last, *torch.autograd.grad(logits.square().sum(), list(net.parameters()))


def check_equal(net, classes, state=None, limit=1e-12):
    compiled = CompiledForward(net)
    for value, reference in zip(outcome(net, compiled, classes, state), outcome(net, net, classes, state), strict=True):
        assert relative_error(value.double(), reference.double()) < limit
    assert compiled._compiled is not None
    assert not compiled._failed


OTHERS = [(preset, again, again, LEVELS) for preset in ("paper", "griffin") for again in (True, False)]
CASES = [("paper", True, True, ONE_BLOCK), *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)]


@pytest.mark.parametrize(("preset", "recompute", "carried", "levels"), CASES)
def test_logits_and_gradients_are_those_of_the_plain_model(preset, recompute, carried, levels, monkeypatch, no_warnings):
    """Each direction is one graph, with dropout."""
    monkeypatch.setattr(compiled_forward, "BACKEND", "aot_eager")
    net, classes = make_net(preset, recompute, levels), torch.randint(32, (2, 24))
    state = net.eval()(classes)[1].detach() if carried else None
    begin(net.train())
    check_equal(net, classes, state)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler, which torch.compile needs on a CPU")
def test_by_the_compiler_of_the_cpu(monkeypatch, no_warnings):
    monkeypatch.setattr(compiled_forward, "BACKEND", "inductor")
    net = make_net()
    begin(net)
    check_equal(net, torch.randint(32, (2, 24)), limit=1e-9)


@pytest.mark.slow
def test_steps_with_other_masks_are_one_graph(monkeypatch, no_warnings):
    """The small case and the step are each compiled once; another shape runs uncompiled; evaluation is compiled anew."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(compiled_forward, "BACKEND", backend)
    net, classes = make_net(), torch.randint(32, (2, 24))
    compiled = CompiledForward(net)
    for step in range(4):
        begin(net, step=step)
        logits, _ = compiled(classes)
        assert torch.equal(logits, net(classes)[0])
    assert len(graphs) == 2
    compiled(classes[:, :12])
    assert len(graphs) == 2
    with torch.no_grad():
        compiled(classes)
    assert len(graphs) == 3


def test_a_compiled_model_that_is_wrong_is_not_used(monkeypatch):
    def backend(graph, inputs):
        return lambda *given: tuple(t * 1.01 if t.is_floating_point() and t.dim() == 3 else t for t in graph.forward(*given))

    monkeypatch.setattr(compiled_forward, "BACKEND", backend)
    told_and_plain(r"is wrong: logits differ from the plain model's by 1\.0e-02, allowed 1e-09")


def test_a_compiler_that_raises(monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compiled_forward, "BACKEND", backend)
    told_and_plain(r"fails: BackendCompilerFailed: .*no compiler here")


def told_and_plain(message):
    """Checks for one warning, after which the results are those of the plain model."""
    net, classes = make_net(), torch.randint(32, (2, 24))
    begin(net)
    compiled = CompiledForward(net)
    with pytest.warns(UserWarning, match=rf"the compiled model on cpu \(torch [\d.]+\S*, triton \S+, CUDA \S+\) {message}"):
        found = outcome(net, compiled, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = outcome(net, compiled, classes)
    for values in zip(found, again, outcome(net, net, classes), strict=True):
        assert torch.equal(values[0], values[2])
        assert torch.equal(values[1], values[2])


def test_what_is_wrong_with_the_input_is_raised(no_warnings):
    net = make_net()
    begin(net, lanes=1)
    compiled = CompiledForward(net)
    compiled(torch.randint(32, (1, 16)))  # as many samples as the check uses: one graph
    with pytest.raises(IndexError):
        compiled(torch.full((1, 12), 99))


@pytest.mark.parametrize(("compiles", "on"), [("auto", False), (False, False), (True, True)])
def test_the_setting_of_the_module(compiles, on, tmp_path, no_warnings):
    """Runs on a CPU; the weights keep their names, and the loss is the same."""
    module = make_module(compile=compiles)
    module.trainer = L.Trainer(logger=False, enable_checkpointing=False, max_steps=1, accelerator="cpu", default_root_dir=tmp_path)
    names, batch = list(module.state_dict()), Batch(torch.randint(32, (1, 16)), torch.ones(1, 16, dtype=torch.bool), torch.arange(1))
    expected = module.validation_step(batch)
    module.setup("fit")
    assert relative_error(module.validation_step(batch), expected) < 1e-6
    assert (module._compiled is not None and module._compiled._compiled is not None) == on
    assert list(module.state_dict()) == names
    assert "compile" not in module.hparams
    module.setup("test")
    assert isinstance(module, HarmonicModule)


def test_is_off_with_a_line_where_ranks_share_a_waveform(tmp_path, monkeypatch):
    told, module = [], make_module(compile=True)
    monkeypatch.setattr("lightning_modules.autoregressive_module.context_size", lambda trainer: 2)
    monkeypatch.setattr("lightning_modules.autoregressive_module.rank_zero_info", told.append)
    module.trainer = L.Trainer(logger=False, enable_checkpointing=False, max_steps=1, accelerator="cpu", default_root_dir=tmp_path)
    module.setup("fit")
    assert module._compiled is None
    assert told == ["torch.compile: off, as ranks share a waveform and their exchanges cannot be compiled"]
