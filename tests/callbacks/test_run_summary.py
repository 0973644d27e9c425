"""Tests of the run summary: the probe of memory and time, and durations as text."""

import pytest
import torch

from callbacks.run_summary import in_words, probe
from harmonicrnn.models import HarmonicRNN, LevelSpec


def test_probe_scales_with_the_model_and_leaves_no_trace(monkeypatch):
    """The clock is faked: each first pass, which compiles, takes 100 s, and each second pass 4 s."""
    clock = iter([0.0, 100.0, 200.0, 204.0] * 2)
    monkeypatch.setattr("callbacks.run_summary.time.perf_counter", lambda: next(clock))
    small, large = (HarmonicRNN((LevelSpec(width, 1),), heads=2) for width in (16, 64))
    random_state = torch.get_rng_state()
    small_bytes, _ = probe(small, 400)
    large_bytes, seconds = probe(large, 400)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(p.grad is None for p in large.parameters())
    assert seconds == 4 / 400
    # At least 20 and less than 100 activations of the block's width, plus the logits.
    assert 20 * 64 * 4 < large_bytes - 256 * 4 < 100 * 64 * 4
    assert small_bytes < large_bytes


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.1, "1 s"), (36, "36 s"), (99.4, "99 s"), (99.6, "2 min"), (90 * 60, "90 min"), (99.6 * 60, "1.7 h"), (360_000, "100.0 h")],
)
def test_a_duration_has_a_unit_that_suits_it(seconds, words):
    assert in_words(seconds) == words
