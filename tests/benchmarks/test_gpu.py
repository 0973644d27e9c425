"""Tests of the GPU benchmarks on tiny sizes on the CPU: they run, and print no speed if results differ. The speeds are meaningless here."""

from functools import partial
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F

from benchmarks import gpu, gpu_recurrence
from benchmarks.gpu import Step, checked_loss, generation, linearity, training
from benchmarks.timing import UnequalError, benchmark
from harmonicrnn.models import HarmonicRNN, LevelSpec
from tests.harmonicrnn.models.test_harmonic_rnn import make_model

LEVELS = (LevelSpec(64, 1, 4), LevelSpec(64, 1))
CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_says_that_it_needs_a_gpu(capsys):
    assert benchmark(gpu.gpu, args=[]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err == "error: benchmarks.gpu needs a CUDA device, and torch sees none on this machine: nothing was measured\n"


def test_recurrence(capsys, monkeypatch):
    monkeypatch.setattr(gpu_recurrence, "find_spec", lambda name: None)
    cases = [partial(gpu_recurrence.fused, (2, 50, 8), dtype) for dtype in (torch.float32, torch.bfloat16)]
    cases += [partial(case, 50, width=8) for case in (gpu_recurrence.against_plain, gpu_recurrence.against_associative_scan)]
    gpu.report([*cases, partial(gpu_recurrence.against_accelerated_scan, 50, units=4)], CPU, 2)
    out = capsys.readouterr().out
    assert "no speed is reported" not in out
    assert out.count(" ms (") == 4 + 2 + 2
    assert out.count("of the copy") == 4
    assert out.count("times ours") == 2
    assert "commit" in out
    assert "accelerated-scan: not installed" in out


def test_tuning(capsys):
    chunks = pytest.importorskip("triton") and import_module("harmonicrnn.ops.triton.chunks")
    before = {name: getattr(chunks, name) for name in gpu_recurrence.CONSTANTS}
    cases = [partial(gpu_recurrence.tuning, name, values[0], 50, width=8) for name, (_, values) in gpu_recurrence.CONSTANTS.items()]
    gpu.report(cases, CPU, 2)
    out = capsys.readouterr().out
    assert "no speed is reported" not in out
    assert out.count("of the time with") == len(cases)
    assert before == {name: getattr(chunks, name) for name in before}
    assert all(before[name] in values for name, (_, values) in gpu_recurrence.CONSTANTS.items())


def test_a_constant_is_changed_while_its_time_is_taken(monkeypatch):
    """Records the constant in every call of the scan: it must take its own value and the tried one."""
    chunks, seen, true = import_module("harmonicrnn.ops.triton.chunks"), set(), gpu_recurrence.cg_lru
    monkeypatch.setattr(gpu_recurrence, "cg_lru", lambda *given: seen.add(chunks.MIN_CHUNK) or true(*given))
    gpu_recurrence.tuning("MIN_CHUNK", 16, 50, CPU, 1, width=8)
    assert seen == {16, 32}


def test_training(capsys):
    steps = (Step(2, 80, "fast"), Step(2, 80, "compiled", compiled=True), Step(1, 80, "small", recompute=True, memory=24))
    cases = [partial(training, step, levels=LEVELS) for step in steps]
    gpu.report([*cases, partial(linearity, exponents=range(6, 8), levels=LEVELS)], CPU, 2)
    out = capsys.readouterr().out
    assert "no speed is reported" not in out
    assert out.count("samples/s") == 5


def test_no_speed_of_a_step_that_is_wrong_in_16_bits_alone(capsys, monkeypatch):
    """The error is in the forward pass or in the gradients."""
    true = F.gelu

    def without_output(x, **given):
        return 0 * true(x, **given) if torch.is_autocast_enabled("cpu") else true(x, **given)

    def without_gradient(x, **given):
        return true(x, **given).detach() + 0 * x if torch.is_autocast_enabled("cpu") else true(x, **given)

    for wrong in (without_output, without_gradient):
        monkeypatch.setattr(F, "gelu", wrong)
        gpu.report([partial(training, Step(2, 80, "fast"), levels=LEVELS)], CPU, 1)
        out = capsys.readouterr().out
        assert "no speed is reported: gradient of" in out
        assert " ms (" not in out
    monkeypatch.setattr(F, "gelu", true)
    net = HarmonicRNN(LEVELS, preset="griffin")
    classes = torch.randint(256, (2, 80))
    assert checked_loss("step", net, net, classes, 32).isfinite()
    with pytest.raises(UnequalError, match="step, logits: differs"):
        checked_loss("step", net, lambda given: (2 * net(given)[0], None), classes, 32)


def test_a_case_that_fails_is_named_and_the_others_go_on(capsys):
    def broken(device, repeats):
        raise RuntimeError("the driver is too old")

    gpu.report([broken, lambda device, n: print("next")], CPU, 2)
    assert capsys.readouterr().out.endswith("RuntimeError: the driver is too old\nnext\n")


def test_generation(capsys, monkeypatch):
    case = partial(generation, 3, net=make_model(levels=LEVELS, dtype=torch.float32))
    gpu.report([case], CPU, 2)
    out = capsys.readouterr().out
    assert "no speed is reported" not in out
    assert out.count("samples/s") == 1
    monkeypatch.setattr(HarmonicRNN, "nats", lambda net, classes: (torch.ones_like(classes, dtype=torch.float64), None))
    gpu.report([case], CPU, 2)
    assert "no speed is reported: generation, 3 streams" in capsys.readouterr().out


def test_no_speed_of_what_is_not_equal(capsys, monkeypatch):
    true = gpu_recurrence.cg_lru

    def wrong(*inputs, implementation="auto"):
        y, last = true(*inputs, implementation=implementation)
        return (y if implementation == "reference" else y * 1.01), last

    monkeypatch.setattr(gpu_recurrence, "cg_lru", wrong)
    gpu.report([partial(gpu_recurrence.fused, (1, 50, 8), torch.float32)], CPU, 2)
    out = capsys.readouterr().out
    assert "no speed is reported: fused CG-LRU 1 x 50" in out
    assert " ms (" not in out
