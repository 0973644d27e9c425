"""Tests of integer products, with each instruction set that processors may have."""

import numpy as np
import pytest
from numba import njit

from harmonicrnn.generation.cpu import int8_products
from harmonicrnn.generation.cpu.addresses import address, aligned
from harmonicrnn.generation.cpu.int8_products import INSTRUCTIONS, inputs_of_a_step, lay_out, whole_panels
from harmonicrnn.generation.cpu.llvm import PANEL

COUNT = 2


@pytest.mark.parametrize("inputs", [64, 67])
@pytest.mark.parametrize("chosen", INSTRUCTIONS, ids=lambda chosen: chosen.feature)
def test_sums_are_exact_by_any_instructions(chosen, inputs, monkeypatch):
    if chosen.function and not int8_products.get_host_cpu_features().get(chosen.feature):
        pytest.skip(f"this processor has no {chosen.feature}")
    monkeypatch.setattr(int8_products, "get_host_cpu_features", lambda: {chosen.feature: True})
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (COUNT, inputs, PANEL), dtype=np.int8)
    # A few of the largest and smallest numbers, followed by leftovers behind the inputs: upper parts, then lower ones.
    size = -(-inputs // chosen.inputs) * chosen.inputs
    upper = rng.choice(np.array([-32767, -300, -1, 0, 1, 32767], dtype=np.int16), size)
    lower = rng.choice(np.array([0, 1, 127, 128, 255], dtype=np.int16), size)
    x = np.concatenate([upper, lower])
    # The scale of x, the biases and the scales are powers of two.
    scale, out = np.array([0.25], dtype=np.float32), np.empty((COUNT, 2, PANEL), dtype=np.float32)
    out[:, 0], out[:, 1] = 8, 2
    y, laid_out = aligned(COUNT * PANEL, np.dtype(np.float32)), lay_out(weights)

    @njit
    def multiply(w, x, scale, y, out):
        n = inputs_of_a_step()
        whole_panels(COUNT, w, 0, x, 0, scale, 0, y, 0, out, 0, (inputs + n - 1) // n)

    multiply(address(laid_out), address(x), address(scale), address(y), address(out))
    large, small = ((part[:inputs].astype(np.int64) @ weights.astype(np.int64)).astype(np.float32) for part in (upper, lower))
    total = (large.astype(np.float64) * 256 + small).astype(np.float32)
    assert np.array_equal(y, (total * np.float32(0.5) + 8).reshape(-1))
