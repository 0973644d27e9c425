"""Fixtures for Triton kernels in Triton's interpreter."""

import inspect
from functools import cache

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """Fills new tensors with NaN, so that missing writes of a kernel are noticed."""
    empty_like, new_empty = torch.empty_like, torch.Tensor.new_empty

    def poisoned(make):
        def function(*args, **kwargs):
            made = make(*args, **kwargs)
            return made.fill_(float("nan")) if made.is_floating_point() or made.is_complex() else made

        return function

    monkeypatch.setattr(torch, "empty_like", poisoned(empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(new_empty))


@pytest.fixture(autouse=True)
def trusted_kernels(monkeypatch):
    """Skips the check of kernels at first use, which takes the interpreter ten seconds."""
    from harmonicrnn.ops import first_use

    monkeypatch.setattr(first_use, "_verdicts", {torch.device("cpu"): None})


@pytest.fixture(autouse=True)
def known_builtins(monkeypatch):
    """Caches the builtins of Triton's language, which the interpreter looks up at each call in a kernel, a third of its time."""
    from triton.runtime import interpreter

    is_builtin = interpreter.tl.core.is_builtin

    @cache
    def names(package):
        return [name for name, member in inspect.getmembers(package) if is_builtin(member)]

    def patch(package, builder, scope):
        for name in names(package):
            if is_builtin(member := getattr(package, name)):
                interpreter._patch_attr(package, name, member, builder, scope)

    monkeypatch.setattr(interpreter, "_patch_builtin", patch)


@pytest.fixture(autouse=True)
def products_of_bfloat16(monkeypatch):
    """Multiplies bfloat16 as float32: Triton 3.6's interpreter would multiply its bits as integers."""
    from triton.language import bfloat16, float32
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    create_dot = InterpreterBuilder.create_dot

    def widened(handle):
        if handle.dtype.scalar != bfloat16:
            return handle
        return TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), float32)

    def create(self, a, b, *others):
        return create_dot(self, widened(a), widened(b), *others)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    """Splits chunks of 4 steps into a block of 3 and a rest of one."""
    from harmonicrnn.ops.triton import chunks

    for module, name in ((chunks, "FUSED_ROWS"), (chunks, "GIVEN_ROWS"), (chunks, "BACKWARD_ROWS")):
        monkeypatch.setattr(module, name, 3)
