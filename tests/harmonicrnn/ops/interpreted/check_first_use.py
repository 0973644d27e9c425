"""Run by tests/harmonicrnn/ops/test_triton.py in Triton's interpreter: kernels that are wrong or fail are not used."""

import warnings
from functools import partial

import pytest
import torch

from harmonicrnn.ops import cg_lru, choose, first_use, fused, linear_scan
from harmonicrnn.ops.triton import chunks, plain_scan
from tests.harmonicrnn.ops.test_cg_lru import make_inputs, restated, run
from tests.harmonicrnn.ops.test_scan import make_inputs as make_scan_inputs
from tests.helpers import F64, relative_error

CPU = torch.device("cpu")
TOLD = r"the Triton kernels on cpu \(torch [\d.]+\S*, triton [\d.]+, CUDA \S+\) {}: the recurrence is computed by ordinary tensor"
by_triton = partial(cg_lru, implementation="triton")


@pytest.fixture(autouse=True)
def first(monkeypatch, trusted_kernels):
    """Clears all verdicts, and checks kernels on few steps."""
    monkeypatch.setattr(first_use, "_verdicts", {})
    monkeypatch.setattr(first_use, "STEPS", 3)
    monkeypatch.setattr(chunks, "CHUNK", 2)


def right_results(function=by_triton):
    inputs, fresh = make_inputs("complex", 2, 5, 2)
    outcomes = [run(each, inputs, fresh[:2]) for each in (function, restated)]
    for value, reference in zip(*([*outputs, *gradients] for outputs, gradients in outcomes), strict=True):
        assert relative_error(value, reference) < F64


def spoil(monkeypatch, module, name, which):
    """Makes one result of a kernel's function wrong by one percent."""
    true = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: tuple(t * 1.01 if i == which else t for i, t in enumerate(true(*given))))


def test_kernels_that_are_right_are_used():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert choose("triton", CPU).name == "triton"


@pytest.mark.parametrize(
    ("module", "name", "which"),
    [
        (fused, "cg_lru_adjoint_summary", 0),
        (plain_scan, "backward", 2),
        (fused, "cg_lru", 0),
        pytest.param(fused, "cg_lru_backward", 3, marks=pytest.mark.slow),
        pytest.param(fused, "cg_lru_summary", 1, marks=pytest.mark.slow),
        pytest.param(plain_scan, "forward", 1, marks=pytest.mark.slow),
    ],
)
def test_wrong_results(module, name, which, monkeypatch):
    spoil(monkeypatch, module, name, which)
    with pytest.warns(UserWarning, match=TOLD.format(r"differ from plain tensor operations by 1\.0e-02 \(value .*\)")):
        right_results()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        right_results()
    assert choose("triton", CPU).name == "reference"
    assert "differ" in choose("triton", CPU).reason


def test_a_kernel_that_raises(monkeypatch):
    def broken(*given):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(plain_scan, "forward", broken)
    a, x, h0 = make_scan_inputs(2, 5, 2, torch.complex128)
    with pytest.warns(UserWarning, match=TOLD.format("fail: RuntimeError: no kernel image")):
        found = linear_scan(a, x, h0, implementation="triton")
    for value, reference in zip(found, linear_scan(a, x, h0), strict=True):
        assert relative_error(value, reference) < F64


@pytest.mark.slow
def test_a_first_use_while_a_model_is_traced_and_in_the_modes_of_evaluation(monkeypatch):
    spoil(monkeypatch, fused, "cg_lru_backward", 0)
    with pytest.warns(UserWarning, match=r"value 2 of 7"):
        right_results(torch.compile(by_triton, backend="aot_eager", fullgraph=True))
    first_use._verdicts.clear()
    with pytest.warns(UserWarning, match=r"value 2 of 7"), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert choose("triton", CPU).name == "reference"
