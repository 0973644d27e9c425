"""Tests of synthetic music: pitches, scores, predictability, level and decay."""

import numpy as np
import pytest
import torch

from harmonicrnn.audio import Note, Quantiser, compose, extremes, render, scale

RATE = 16_000


def clip(index, samples=RATE, rate=RATE):
    return render(compose(samples / rate, np.random.default_rng([7, index])), samples, rate)


def entropies(clips, q=256):
    """Returns the order-0 entropy and the order-1 conditional entropy, in bits, of classes under the tables' protocol."""
    counts = np.zeros((q, q))
    for samples in clips:
        x = torch.from_numpy(samples)
        classes = Quantiser().encode(scale(x, extremes(x))).numpy()
        np.add.at(counts, (classes[:-1], classes[1:]), 1)
    joint = counts / counts.sum()
    pairs, first = joint[joint > 0], joint.sum(axis=1)
    order_0 = -(first[first > 0] * np.log2(first[first > 0])).sum()
    return order_0, -(pairs * np.log2(pairs)).sum() - order_0


@pytest.mark.parametrize("rate", [8000, 16_000])
def test_the_past_tells_much_about_the_next_sample(rate):
    order_0, order_1 = entropies([clip(i, rate, rate) for i in range(60)])
    assert order_0 > 6
    assert order_1 < order_0 - 2


def test_is_tonal():
    for i in range(20):
        power = np.abs(np.fft.rfft(clip(i) * np.hanning(RATE))) ** 2 + 1e-12
        assert np.exp(np.log(power).mean()) / power.mean() < 0.1


@pytest.mark.parametrize("plucked", [True, False], ids=["plucked", "struck"])
@pytest.mark.parametrize("frequency", [98.0, 261.63, 830.6])
def test_a_note_has_its_pitch(frequency, plucked):
    samples = render([Note(0.1, frequency, 0.5, plucked)], 2 * RATE, RATE)
    assert cents(samples[RATE // 10 :], frequency) < 5


def test_the_score_is_what_sounds():
    """Checks that the notes of each struck chord of every clip appear as peaks within 20 cents of the score."""
    for i in range(5):
        notes = compose(2.0, np.random.default_rng([7, i]))
        samples = render(notes, 2 * RATE, RATE)
        for note in (n for n in notes if not n.plucked and n.onset < 0.5):
            assert cents(samples[round(note.onset * RATE) :][: RATE // 2], note.frequency, search=0.03) < 20


def cents(samples, frequency, search=0.3):
    """Returns the distance in cents between a frequency in Hz and the highest peak of the spectrum within a share `search` of it."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 19))
    axis = np.fft.rfftfreq(1 << 19, 1 / RATE)
    near = (axis > frequency * (1 - search)) & (axis < frequency * (1 + search))
    return abs(1200 * np.log2(axis[near][spectrum[near].argmax()] / frequency))


def test_is_a_function_of_the_seed():
    assert np.array_equal(clip(3), clip(3))
    assert not np.array_equal(clip(3), clip(4))


def test_level_and_decay():
    samples = render([Note(0.0, 220.0, 1.0, True)], 2 * RATE, RATE)
    assert np.abs(samples).max() == pytest.approx(0.8)
    assert np.abs(samples[:20]).max() < 0.5  # no click at the start
    assert np.abs(samples[-RATE // 4 :]).max() < 0.1


def test_no_notes_are_silence():
    assert not render([], 100, RATE).any()
