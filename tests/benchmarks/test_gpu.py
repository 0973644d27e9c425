"""The GPU's benchmarks on tiny sizes on the CPU: that they run, and print nothing of what is not equal. Their numbers mean nothing here."""

from dataclasses import replace
from functools import partial
from importlib import import_module

import pytest
import torch

from benchmarks import gpu, gpu_recurrence
from benchmarks.gpu_generation import generation_rows
from benchmarks.gpu_neighbours import NEIGHBOURS, neighbour_rows
from benchmarks.gpu_timing import UnequalError
from benchmarks.gpu_training import Step, checked_loss, linearity_rows, training_rows
from benchmarks.gpu_tuning import CONSTANTS, tuning_rows
from harmonicrnn.models import HarmonicRNN, LevelSpec, block
from tests.harmonicrnn.models.test_harmonic_rnn import make_model

LEVELS = (LevelSpec(16, 1, 4), LevelSpec(16, 1))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_says_that_it_needs_a_gpu(capsys):
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        gpu.main()
    assert not capsys.readouterr().out


def test_recurrence_rows(capsys):
    cases = [
        lambda device, n: gpu_recurrence.fused_rows(2, 50, 8, torch.float32, device, n),
        lambda device, n: gpu_recurrence.fused_rows(2, 50, 8, torch.bfloat16, device, n),
        lambda device, n: gpu_recurrence.plain_rows(1, 50, 8, device, n),
        lambda device, n: gpu_recurrence.associative_scan_rows(1, 50, 8, device, n),
        lambda device, n: gpu_recurrence.accelerated_scan_rows(1, 50, 4, device, n),
    ]
    gpu.report(cases, torch.device("cpu"), 2)
    out = capsys.readouterr().out
    assert "no speed is reported" not in out
    assert out.count(" ms (") == 4 + 2 + 2
    assert "commit" in out
    assert "accelerated-scan" in out


def test_neighbour_rows(capsys):
    gpu.report([partial(neighbour_rows, neighbour, 50) for neighbour in NEIGHBOURS], torch.device("cpu"), 2)
    out = capsys.readouterr().out
    assert "no speed is reported" not in out
    assert out.count(" ms (") == len(NEIGHBOURS) * 2 * 2


def test_tuning_rows(capsys):
    pytest.importorskip("triton")

    def used():
        return [getattr(import_module(f"harmonicrnn.ops.triton.{constant.module}"), constant.name) for constant in CONSTANTS]

    before = used()
    gpu.report([partial(tuning_rows, constant, constant.values[0], 50) for constant in CONSTANTS], torch.device("cpu"), 2)
    out = capsys.readouterr().out
    assert "no speed is reported" not in out
    assert out.count(" ms (") == len(CONSTANTS)
    assert before == used()
    assert all(value in constant.values for value, constant in zip(before, CONSTANTS, strict=True))


def test_traffic_is_counted_by_operation():
    """Of one block of width 16 on 40 steps, in bfloat16: tensors of 1,280 bytes."""
    pytest.importorskip("triton")
    from benchmarks.gpu_traffic import counted_step

    step = counted_step((LevelSpec(16, 1),), 1, 40)
    tensor, counts = 40 * 16 * 2, step.bytes
    assert counts["our gated_gelu_kernel"] == 3 * tensor
    assert counts["our convolution_kernel"] == 2 * tensor + 3 * 16 * 2 + (4 * 16 + 16) * 4
    assert counts["our residual_norm_kernel"] == (2 + 4 + 2) * tensor + 3 * 16 * 2
    assert counts["our gated_mlp_kernel"] == 3 * tensor + (3 * 48 * 16 + 2 * 48 + 16) * 2
    # x, gates, y; two states, parameters and one flag.
    assert counts["our forward_kernel"] == 3 * tensor + 2 * 16 * 4 + 2 * 8 * 4 + 1
    assert not counts["our summary_kernel"]
    # Of 16 channels to 16: gate, input, both gates, output; the MLP's three to 48, five backward and three for weights;
    # the head; and 256 rows of the embedding.
    assert step.products == 2 * 40 * 16 * (3 * 4 * 16 + (3 + 5 + 3) * 48 + 3 * 256) + 2 * 256 * 16 * (2 * 16)
    assert step.peak > 256 * 40 * 4  # the logits in float32 at least
    longer, longest = (counted_step((LevelSpec(16, 1),), 1, steps).bytes for steps in (4000, 8000))
    assert longer["our summary_kernel"] > 2 * 100 * tensor
    assert all(1.95 < longest[name] / longer[name] <= 2 for name in ("mm", "our gated_mlp_backward_kernel"))


def test_training_rows(capsys):
    steps = (Step(2, 80, "fast"), Step(2, 80, "compiled", compiled=True), Step(1, 80, "small", recompute=True, memory=24))
    cases = [partial(training_rows, step, levels=LEVELS) for step in steps]
    cases.append(partial(linearity_rows, exponents=range(6, 8), levels=LEVELS))
    gpu.report(cases, torch.device("cpu"), 2)
    out = capsys.readouterr().out
    assert "no speed is reported" not in out
    assert out.count("samples/s") == 5


def test_no_speed_of_a_step_that_is_wrong_in_16_bits_alone(capsys, monkeypatch):
    """In its forward pass, or in its gradients."""
    true = block.gated_mlp

    def without_output(*given):
        y, residual = true(*given), given[5]
        return residual + 0 * y if torch.is_autocast_enabled("cpu") else y

    def without_gradient(*given):
        y, residual = true(*given), given[5]
        return y.detach() + 0 * y + residual - residual.detach() if torch.is_autocast_enabled("cpu") else y

    for wrong in (without_output, without_gradient):
        monkeypatch.setattr(block, "gated_mlp", wrong)
        gpu.report([partial(training_rows, Step(2, 80, "fast"), levels=LEVELS)], torch.device("cpu"), 1)
        out = capsys.readouterr().out
        assert "no speed is reported: gradient of" in out
        assert " ms (" not in out
    net = HarmonicRNN(LEVELS)
    classes = torch.randint(256, (2, 80))
    assert checked_loss("step", net, net, classes, 32).isfinite()
    monkeypatch.setattr(block, "gated_mlp", without_output)
    with pytest.raises(UnequalError, match="step, logits: differs"):
        checked_loss("step", net, net, classes, 32)


def test_a_case_that_fails_is_named_and_the_others_go_on(capsys):
    def broken(device, repeats):
        raise RuntimeError("the driver is too old")
        yield ""

    gpu.report([broken, lambda device, n: ["next"]], torch.device("cpu"), 2)
    assert capsys.readouterr().out.endswith("RuntimeError: the driver is too old\nnext\n")


def test_generation_rows(capsys, monkeypatch):
    net = make_model(levels=LEVELS, dtype=torch.float32)
    case = partial(generation_rows, 3, net=net)
    gpu.report([case], torch.device("cpu"), 2)
    out = capsys.readouterr().out
    assert "no speed is reported" not in out
    assert out.count("samples/s") == 1
    monkeypatch.setattr("harmonicrnn.generation.gpu.fused.EPSILON", 0.1)
    gpu.report([case], torch.device("cpu"), 2)
    assert "no speed is reported: generation, 3 streams" in capsys.readouterr().out


def test_no_speed_of_what_is_not_equal(capsys, monkeypatch):
    true = gpu_recurrence.cg_lru

    def wrong(*inputs, implementation="auto"):
        y, last = true(*inputs, implementation=implementation)
        return (y if implementation == "reference" else y * 1.01), last

    monkeypatch.setattr(gpu_recurrence, "cg_lru", wrong)
    gpu.report([lambda device, n: gpu_recurrence.fused_rows(1, 50, 8, torch.float32, device, n)], torch.device("cpu"), 2)
    out = capsys.readouterr().out
    assert "no speed is reported: fused CG-LRU B=1" in out
    assert " ms (" not in out
    wrong_gelu = replace(NEIGHBOURS[0], used=lambda gate, x: NEIGHBOURS[0].used(gate, x) * 1.05)
    gpu.report([partial(neighbour_rows, wrong_gelu, 50)], torch.device("cpu"), 2)
    out = capsys.readouterr().out
    assert "no speed is reported: gated GELU, as the model has it" in out
    assert " ms (" not in out
