"""Tests of counter-based dropout masks: share kept, reproducibility, compiled code, gradients and independence."""

import pytest
import torch

from harmonicrnn.ops import combined_key, dropout, key_words
from harmonicrnn.ops.dropout_mask import _masked, masked_by_numba


def key_of(*parts):
    return key_words([combined_key(*parts)])[0]


KEY = key_of(3, 1_000_000, 17)


def places(lanes, start=0):
    return torch.arange(lanes), torch.full((lanes,), start)


def mask(lanes=3, time=200, width=64, rate=0.2, key=KEY, start=0):
    return dropout(torch.ones(lanes, time, width), rate, key, *places(lanes, start)) != 0


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.9])
def test_keeps_the_share_and_the_mean(rate):
    x = torch.ones(4, 500, 64)
    y = dropout(x, rate, KEY, *places(4))
    assert (y == 0).double().mean().item() == pytest.approx(rate, abs=0.004)
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    assert y[y != 0].unique().tolist() == pytest.approx([1 / (1 - rate)], rel=1e-4)


def test_is_the_same_for_every_piece():
    """Checks chunks, single lanes, and clips far into a recording."""
    x = torch.randn(3, 90, 7, dtype=torch.float64)
    for start in (0, 2**33 + 5):
        lanes, begin = places(3, start)
        whole = dropout(x, 0.3, KEY, lanes, begin)
        parts, at = [], 0
        for piece in x.split([1, 0, 50, 39], dim=1):
            parts.append(dropout(piece, 0.3, KEY, lanes, begin + at))
            at += piece.shape[1]
        assert torch.equal(torch.cat(parts, dim=1), whole)
        assert torch.equal(dropout(x[1:2], 0.3, KEY, lanes[1:2], begin[1:2]), whole[1:2])


@pytest.mark.parametrize("width", [1, 6, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_code_equals_tensor_operations(dtype, width, monkeypatch):
    x, place = torch.randn(2, 33, width, dtype=dtype), places(2, 12_345)
    compiled = _masked(x, 13_107, KEY, *place)
    monkeypatch.setattr("harmonicrnn.ops.dropout_mask.installed", lambda package: False)
    assert torch.equal(compiled, _masked(x, 13_107, KEY, *place))
    assert compiled.count_nonzero() < x.numel()


def test_operator():
    x = torch.randn(2, 7, 3)
    torch.library.opcheck(masked_by_numba, [x, 13_107, KEY, *places(2)])
    torch.library.opcheck(masked_by_numba, [x.transpose(1, 2), 13_107, KEY, *places(2)])


def test_bfloat16_has_the_same_mask():
    x = torch.ones(2, 40, 16)
    assert torch.equal(dropout(x.bfloat16(), 0.4, KEY, *places(2)) != 0, mask(2, 40, 16, 0.4))


def test_gradient_has_the_same_mask():
    x = torch.randn(2, 20, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: dropout(x, 0.4, KEY, *places(2)), x)


def test_masks_are_independent_of_one_another():
    """Two masks agree no more than by chance, within five standard deviations, whatever they differ in."""
    base, n = mask().double(), mask().numel()
    others = {
        "seed": mask(key=key_of(4, 1_000_000, 17)),
        "step": mask(key=key_of(3, 1_000_001, 17)),
        "layer": mask(key=key_of(3, 1_000_000, 18)),
        "lane": mask(4)[1:],
        "position": mask(start=1),
        "channel": mask().roll(1, dims=2),
        "half": mask().roll(32, dims=2),
    }
    for what, other in others.items():
        covariance = ((base - 0.8) * (other.double() - 0.8)).mean().item()
        assert abs(covariance) < 5 * 0.16 / n**0.5, what


def test_rows_and_columns_of_a_mask_are_spread_evenly():
    drawn = mask(1, 2000, 128).double()[0]
    for dim, size in ((0, 2000), (1, 128)):
        spread = drawn.mean(dim=dim).var().item() / (0.16 / size)
        assert 0.6 < spread < 1.5


def test_keys_differ():
    keys = {combined_key(seed, step, layer) for seed in (0, 1, 2**40, -1) for step in range(50) for layer in range(50)}
    assert len(keys) == 4 * 50 * 50
    assert all(0 <= key < 2**64 for key in keys)
