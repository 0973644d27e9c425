"""Tests of the choice of an implementation of the scan by device and installed packages."""

import pytest
import torch

from harmonicrnn.ops import choose, implementation, linear_scan

CPU_DEVICE, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("device", "name"), [(CPU_DEVICE, "cpu"), (CUDA, "triton"), (torch.device("meta"), "reference")], ids=str)
def test_auto_takes_what_is_made_for_the_device(device, name, recwarn, monkeypatch):
    monkeypatch.setattr(implementation, "why_not_trusted", lambda device: None)
    assert choose("auto", device).name == name
    assert not recwarn


def test_nothing_is_compiled_inside_the_context(recwarn):
    with implementation.without_compiling():
        assert choose("auto", CPU_DEVICE).name == "reference"
        assert choose("cpu", CPU_DEVICE).name == "cpu"
        assert choose("auto", torch.device("meta")).name == "reference"
        assert not implementation.compiles_for(CPU_DEVICE)
    assert choose("auto", CPU_DEVICE).name == "cpu"
    assert implementation.compiles_for(CPU_DEVICE)
    assert not recwarn


@pytest.mark.parametrize(
    ("device", "missing", "message"),
    [
        (torch.device("mps"), (), "no kernels are made for mps"),
        (CUDA, ("triton",), "triton is not installed"),
        (CPU_DEVICE, ("numba",), "numba is not installed"),
    ],
)
def test_auto_falls_back_with_a_warning(device, missing, message, monkeypatch):
    monkeypatch.setattr(implementation, "installed", lambda package: package not in missing)
    with pytest.warns(UserWarning, match=message):
        assert choose("auto", device).name == "reference"


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("triton", CPU_DEVICE, "triton is not available: it needs a CUDA device, and the tensors are on cpu; set scan to auto"),
        ("cpu", CUDA, "cpu is not available: it needs tensors on the CPU, and they are on cuda"),
        ("fast", CPU_DEVICE, "must be one of auto, reference, cpu, triton, got fast"),
    ],
)
def test_a_forced_one_that_is_not_available_is_refused(name, device, message):
    with pytest.raises(ValueError, match=message):
        choose(name, device)


def test_the_choice_is_what_computes(monkeypatch):
    asked, kernels_of = [], implementation.kernels_of
    monkeypatch.setattr("harmonicrnn.ops.scan.kernels_of", lambda name: asked.append(name) or kernels_of(name))
    x = torch.zeros(1, 2, 3)
    linear_scan(x, x)
    linear_scan(x, x, implementation="reference")
    assert asked == ["cpu", "reference"]
    with pytest.raises(ValueError, match="needs a CUDA device"):
        linear_scan(x, x, implementation="triton")
