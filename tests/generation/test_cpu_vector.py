"""Products in whole numbers, by each of the instructions that processors may have."""

import numpy as np
import pytest
from numba import njit

from generation.cpu import vector
from generation.cpu.vector import PAIRS, PANEL, whole_panels
from generation.cpu.weights import address, aligned

INPUTS, COUNT = 64, 2


@pytest.mark.parametrize("instructions", [*PAIRS, "plain"])
def test_sums_are_exact_by_any_instructions(instructions, monkeypatch):
    if instructions in PAIRS and not vector.get_host_cpu_features().get(instructions):
        pytest.skip(f"this processor has no {instructions}")
    monkeypatch.setattr(vector, "get_host_cpu_features", lambda: {instructions: True})
    rng = np.random.default_rng(0)
    wide = rng.integers(-127, 128, (INPUTS, COUNT * PANEL), dtype=np.int8)
    weights = np.ascontiguousarray(wide.reshape(INPUTS // 2, 2, COUNT, PANEL).transpose(0, 2, 3, 1))
    # A few of the largest and smallest numbers that there are; the scale of x, biases and scales are powers of two.
    x = rng.choice(np.array([-32767, -300, 0, 1, 32767], dtype=np.int16), INPUTS)
    scale, out = np.array([0.25], dtype=np.float32), np.empty((COUNT, 2, PANEL), dtype=np.float32)
    out[:, 0], out[:, 1] = 8, 2
    y = aligned(COUNT * PANEL, np.dtype(np.float32))

    @njit
    def multiply(w, x, scale, y, out):
        whole_panels(COUNT, w, 0, x, 0, scale, 0, y, 0, out, 0, INPUTS // 2)

    multiply(address(weights), address(x), address(scale), address(y), address(out))
    expected = (x.astype(np.int64) @ wide.astype(np.int64)).astype(np.float32) * np.float32(0.5) + 8
    assert np.array_equal(y, expected)
