import numpy as np
import pytest
import torch

from audio import Quantiser, compose, extremes, render, scale
from generation.detectors import FRAME_SECONDS, Reference, Watch

RATE, QUANTISER = 8000, Quantiser()
CLIPS, SECONDS, BREAK = 20, 5, 2


def encode(samples):
    samples = torch.from_numpy(samples).float()
    return QUANTISER.encode(scale(samples, extremes(samples)))


def music(seed, seconds=SECONDS):
    return render(compose(seconds, np.random.default_rng(seed)), seconds * RATE, RATE)


def clean(seed):
    return encode(music(seed))


def turning_to_noise(seed):
    samples, rng = music(seed), np.random.default_rng(seed)
    # From noise of half the music's level to noise that fills the range.
    level = rng.uniform(0.5, 3) * samples.std()
    samples[BREAK * RATE :] = rng.normal(0, level, len(samples) - BREAK * RATE).clip(-0.8, 0.8)
    return encode(samples)


def turning_silent(seed):
    classes, rng = clean(seed).clone(), np.random.default_rng(seed)
    rest = len(classes) - BREAK * RATE
    # Nothing at all, or what is left of a model's doubt around the zero level.
    classes[BREAK * RATE :] = 128 if seed % 2 else torch.from_numpy(rng.integers(127, 130, rest))
    return classes


def findings(classes, reference):
    watch = Watch(QUANTISER, RATE)
    watch.feed(classes)
    return reference.findings(watch.frames)


@pytest.fixture(scope="module", params=["training data", "defaults"])
def reference(request):
    if request.param == "defaults":
        return Reference.defaults(QUANTISER)
    return Reference.of([encode(music(1000 + i)) for i in range(20)], QUANTISER, RATE, "music")


@pytest.mark.parametrize(("make", "kind"), [(clean, None), (turning_to_noise, "noise"), (turning_silent, "silence")])
def test_made_clips_are_told_apart(make, kind, reference):
    right = 0
    for seed in range(CLIPS):
        found = findings(make(seed), reference)
        if kind is None:
            right += not found
        else:
            right += [f.kind for f in found] == [kind] and abs(found[0].start - BREAK) <= FRAME_SECONDS and found[0].seconds >= 2.5
    assert right >= 19


def test_a_pause_is_no_collapse():
    reference = Reference.of([encode(music(1000 + i)) for i in range(5)], QUANTISER, RATE, "music")
    samples = music(0)
    samples[RATE : RATE + RATE // 2] = 0
    assert not findings(encode(samples), reference)


def test_the_silence_that_training_data_has_is_usual():
    """Each of its clips ends with 2 s of silence: as much is music, 4 s are not."""
    pausing = [torch.cat([clean(seed), torch.full((2 * RATE,), 128, dtype=torch.int16)]) for seed in range(5)]
    reference = Reference.of(pausing, QUANTISER, RATE, "music with pauses")
    assert reference.silence_seconds == pytest.approx(2, abs=FRAME_SECONDS)
    assert not findings(pausing[0], reference)
    longer = torch.cat([pausing[0], torch.full((2 * RATE,), 128, dtype=torch.int16)])
    (found,) = findings(longer, reference)
    assert (found.kind, found.start, found.seconds) == ("silence", 5, 4)


def test_measures_of_known_signals():
    watch = Watch(Quantiser(8, "linear"), RATE)
    t = torch.arange(RATE) / RATE
    tone = ((torch.sin(2 * torch.pi * 1000 * t + 0.3) + 1) / 2 * 255.99).long()
    watch.feed(tone)
    noise = torch.randint(256, (RATE,), generator=torch.Generator().manual_seed(0))
    watch.feed(noise)
    assert watch.frames.shape == (8, 3)
    level, flatness, entropy = watch.frames.T
    np.testing.assert_allclose(level[:4], 10 * np.log10(1 / 2), atol=0.1)
    np.testing.assert_allclose(level[4:], 10 * np.log10(1 / 3), atol=0.3)
    assert (flatness[:4] < -30).all()
    assert (flatness[4:] > -1).all()
    np.testing.assert_allclose(entropy[:4], 3, atol=1e-6)  # a period of 8 samples
    # Of 2,000 samples, which makes it (256 - 1) / (2 ln 2) / 2,000 bits less than 8 on average.
    np.testing.assert_allclose(entropy[4:], 8 - 0.092, atol=0.03)


@pytest.mark.parametrize("size", [1, 300, 2000, 2001])
def test_a_clip_is_measured_the_same_in_any_pieces(size):
    classes = clean(0)[:9000]
    whole, pieces = Watch(QUANTISER, RATE), Watch(QUANTISER, RATE)
    whole.feed(classes)
    for piece in classes.split(size):
        pieces.feed(piece)
        pieces.feed(piece[:0])
    assert np.array_equal(whole.frames, pieces.frames)
    assert whole.frames.shape == (4, 3)


def test_training_clips_too_short_for_a_frame_leave_the_defaults():
    quantiser = Quantiser(4)
    assert Reference.of([torch.zeros(100)], quantiser, RATE, "short") == Reference.defaults(quantiser)
    assert Reference.defaults(quantiser).entropy[2] < 4
