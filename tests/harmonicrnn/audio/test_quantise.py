"""Tests of the quantiser: linear and mu-law formulas, class centres, extremes and class limits."""

import numpy as np
import pytest
import soundfile
import torch

from harmonicrnn.audio import Quantiser, extremes, scale, span_of, write_wav

ALL_BITS = (4, 5, 8, 10, 12)


def restated(x, bits, law, span):
    """Quantises with the protocol's formulas, in numpy's float32, sample by sample."""
    one, q = np.float32, 2**bits
    classes = []
    for sample in x:
        if span is None:
            s = (np.clip(sample, -1, 1) + one(1)) / one(2)
        else:
            s = (sample - one(span[0])) / (one(span[1]) - one(span[0]) + one(1e-6))
        if law == "mu-law":
            v = one(2) * s - one(1)
            e = np.sign(v) * np.log1p(one(q - 1) * np.abs(v + one(1e-8))) / np.log1p(one(q - 1))
            s = (e + one(1)) / one(2)
        classes.append(int(np.floor(s * one(q - 0.01) + one(0.005))))
    return np.array(classes)


@pytest.mark.parametrize("law", ["mu-law", "linear"])
@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("span", [None, (-0.3, 0.9), (0.0, 1e-3)], ids=str)
def test_equals_the_formulas(law, bits, span):
    rng = np.random.default_rng(0)
    low, high = span or (-1.1, 1.1)
    x = rng.uniform(low, high, 4000).astype(np.float32)
    x[:2] = low, high
    ours = Quantiser(bits, law).encode(scale(torch.from_numpy(x), span)).numpy()
    theirs = restated(x, bits, law, span)
    # The log1p of two libraries may differ in the last place, which moves samples at the edge of a cell.
    assert (np.abs(ours - theirs) <= 1).all()
    assert (ours != theirs).mean() <= 1e-3
    assert ours.min() >= 0
    assert ours.max() <= 2**bits - 1


@pytest.mark.parametrize("law", ["mu-law", "linear"])
@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("peak", [1e-4, 0.3, 1.0])
def test_the_peak_is_the_end_of_the_range_and_silence_its_middle(law, bits, peak):
    quantiser = Quantiser(bits, law)
    for low, high in ((-peak, peak / 3), (-peak / 7, peak)):
        span = span_of("peak", low, high)
        ends = quantiser.encode(scale(torch.tensor([low, 0.0, high]), span)).tolist()
        assert ends[1] == quantiser.zero_level
        assert ends[0] == 0 or ends[2] == quantiser.classes - 1
    assert quantiser.encode(scale(torch.zeros(3), span_of("peak", 0.0, 0.0))).tolist() == [quantiser.zero_level] * 3


@pytest.mark.parametrize("law", ["mu-law", "linear"])
@pytest.mark.parametrize("bits", ALL_BITS)
def test_every_class_is_reached_and_survives_its_centre(law, bits):
    quantiser = Quantiser(bits, law)
    classes = torch.arange(2**bits)
    assert torch.equal(quantiser.encode(scale(quantiser.decode_centre(classes), None)).long(), classes)


@pytest.mark.parametrize(("law", "bits"), [("mu-law", 4), ("mu-law", 8), ("linear", 8), ("linear", 12)])
def test_every_class_survives_a_wav_file(law, bits, tmp_path):
    quantiser = Quantiser(bits, law)
    classes = torch.arange(2**bits)
    write_wav(tmp_path / "all.wav", quantiser.decode_centre(classes).numpy(), 16_000)
    back, rate = soundfile.read(tmp_path / "all.wav", dtype="float32")
    assert rate == 16_000
    assert torch.equal(quantiser.encode(scale(torch.from_numpy(back), None)).long(), classes)


@pytest.mark.parametrize("law", ["mu-law", "linear"])
@pytest.mark.parametrize("bits", ALL_BITS)
def test_silence_is_the_zero_level_under_the_fixed_range(law, bits):
    assert Quantiser(bits, law).encode(scale(torch.zeros(3), None)).tolist() == [2 ** (bits - 1)] * 3


def test_a_constant_clip_is_class_zero_under_its_own_extremes():
    x = torch.full((5,), 0.25)
    assert Quantiser().encode(scale(x, extremes(x))).tolist() == [0] * 5


def test_extremes_reach_the_outer_classes():
    x = torch.linspace(-0.01, 0.02, 1000)
    classes = Quantiser().encode(scale(x, extremes(x)))
    assert classes[0] == 0
    assert classes[-1] == 255


def test_extremes_of_nothing():
    assert extremes(torch.empty(0)) == (0.0, 0.0)


@pytest.mark.parametrize("law", ["mu-law", "linear"])
@pytest.mark.parametrize("bits", ALL_BITS)
def test_cells_are_those_of_the_quantiser(law, bits):
    """Samples just inside each limit belong to the class on that side: next to the limit in float64, but for the 1e-8 of the protocol's
    mu-law; some roundings away in float32, more of them towards the ends with mu-law."""
    quantiser = Quantiser(bits, law)
    centres, limits = quantiser.cells()
    q = torch.arange(2**bits)
    assert centres.dtype == limits.dtype == torch.float64
    assert (centres.shape, limits.shape) == ((2**bits,), (2**bits - 1,))
    assert (centres.float() - quantiser.decode_centre(q)).abs().max() < 2e-6
    assert torch.equal(torch.bucketize(centres, limits), q)
    mu_law = law == "mu-law"
    for dtype, margin in (
        (torch.float64, 1.1e-8 if mu_law else 1e-15),
        (torch.float32, 3e-7 + 3e-6 * limits.abs() if mu_law else 2.5e-7),
    ):
        for side, classes in ((-1, q[:-1]), (1, q[1:])):
            beside = limits + side * margin * torch.ones_like(limits)
            assert torch.equal(quantiser.encode(scale(beside.to(dtype), None)).long(), classes)
