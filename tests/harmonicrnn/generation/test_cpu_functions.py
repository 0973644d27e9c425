"""Tests of the CPU engine's elementary functions and of its choice of a class."""

import numpy as np
import pytest
import torch

from harmonicrnn.generation.cpu.class_choice import choose
from harmonicrnn.generation.engine import choose as plain_choose
from harmonicrnn.machine_code import jit
from harmonicrnn.ops.elementary import exp_expm1, gelu, sigmoid, sine_cosine


@jit
def evaluate(x, y):
    for i in range(len(x)):
        y[0, i], y[1, i] = exp_expm1(x[i])
        y[2, i], y[3, i] = sine_cosine(x[i])
        y[4, i], y[5, i] = sigmoid(x[i]), gelu(x[i])


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 3e-7), (np.float64, 3e-15)])
def test_functions(dtype, limit):
    x = np.concatenate([np.linspace(-20, 20, 10001), -np.logspace(-12, 1, 1000), np.logspace(-12, 1, 1000)]).astype(dtype)
    y = np.zeros((6, len(x)), dtype=dtype)
    evaluate(x, y)
    wide = x.astype(np.longdouble)
    exact = [np.exp(wide), np.expm1(wide), np.sin(wide), np.cos(wide), 1 / (1 + np.exp(-wide))]
    exact.append(wide / 2 * (1 + np.tanh(np.sqrt(2 / np.longdouble(np.pi)) * (wide + np.longdouble(0.044715) * wide**3))))
    for i in (0, 1):
        assert np.max(np.abs(y[i] - exact[i]) / np.maximum(np.abs(exact[i]), 1e-30)) < limit
    for i in (2, 3, 4, 5):
        assert np.max(np.abs(y[i] - exact[i])) < limit * (1 if i < 5 else 20)


def test_functions_of_numbers_out_of_range_are_finite():
    y = np.zeros((6, 4), dtype=np.float32)
    evaluate(np.array([-1e4, -100, 100, 1e4], dtype=np.float32), y)
    assert np.isfinite(y[[0, 1, 4, 5]]).all()
    np.testing.assert_allclose(y[4], [0, 0, 1, 1], atol=1e-30)


@pytest.mark.parametrize("top_p", [1e-9, 0.2, 0.5, 0.9, 1.0])
def test_choice_is_that_of_the_plain_engine(top_p):
    random = np.random.default_rng(0)
    for size in (2, 31, 256):
        # There are few different values: of equal ones, the lower index comes first.
        logits = random.integers(-3, 4, (300, size)).astype(np.float32)
        uniforms = random.random(300)
        expected = plain_choose(torch.from_numpy(logits), torch.from_numpy(uniforms), 0.8, top_p)
        weights, order = np.zeros(size), np.zeros(size, dtype=np.int64)
        ours = [choose(row, np.int64(-1), u, 0.8, top_p, weights, order)[0] for row, u in zip(logits, uniforms, strict=True)]
        assert ours == expected.tolist()


def test_a_given_class_is_taken_with_its_nats():
    logits = np.random.default_rng(0).normal(0, 3, 31).astype(np.float32)
    expected = -torch.log_softmax(torch.from_numpy(logits).double(), dim=0)
    for given in (0, 7, 30):
        drawn, nats = choose(logits, np.int64(given), 0.5, 0.8, 0.9, np.zeros(31), np.zeros(31, dtype=np.int64))
        assert drawn == given
        assert abs(nats - expected[given].item()) < 1e-9
