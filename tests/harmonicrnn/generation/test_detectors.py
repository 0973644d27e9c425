"""Tests of the detectors of noise, silence and whistles in generated clips."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from scipy import signal

from harmonicrnn.audio import Quantiser, compose, extremes, render, scale
from harmonicrnn.generation.detectors import FRAME_SECONDS, KEPT, Reference, Watch

RATE, QUANTISER = 8000, Quantiser()
CLIPS, SECONDS, BREAK = 20, 5, 2


def encode(samples):
    samples = torch.from_numpy(samples).float()
    return QUANTISER.encode(scale(samples, extremes(samples)))


@cache
def music(seed, seconds=SECONDS):
    return render(compose(seconds, np.random.default_rng(seed)), seconds * RATE, RATE)


@cache
def words(seed, seconds=SECONDS):
    """Returns a word per second, of voice and hiss, at a random place in it: pauses of up to a second, with hardly any background."""
    rng, t = np.random.default_rng(seed), np.arange(RATE) / RATE
    spoken = []
    for _ in range(seconds):
        start, voiced, hiss = rng.uniform(0, 0.5), rng.uniform(0.2, 0.4), rng.uniform(0, 0.1)
        pitch, shape = rng.uniform(90, 220), np.clip(np.sin(np.pi * np.clip((t - start) / voiced, 0, 1)), 0, 1)
        voice = shape * sum(np.sin(2 * np.pi * pitch * n * t) / n for n in range(1, 12))
        after = (t > start + voiced) & (t < start + voiced + hiss)
        spoken.append(rng.uniform(0.3, 1) * voice + 0.3 * after * rng.normal(size=RATE) + 1e-4 * rng.normal(size=RATE))
    return np.concatenate(spoken)


def clean(seed, make=music):
    return encode(make(seed))


def turning_to_noise(seed, make=music):
    samples, rng = make(seed) / np.abs(make(seed)).max(), np.random.default_rng(seed)
    # The noise has at least half the level of the music, and at most fills the range.
    level = rng.uniform(0.5, 3) * samples.std()
    samples[BREAK * RATE :] = rng.normal(0, level, len(samples) - BREAK * RATE).clip(-0.8, 0.8)
    return encode(samples)


def turning_silent(seed, make=music):
    classes, rng = clean(seed, make).clone(), np.random.default_rng(seed)
    rest = len(classes) - BREAK * RATE
    # Nothing at all, or the dither of an unsure model around the zero level.
    classes[BREAK * RATE :] = 128 if seed % 2 else torch.from_numpy(rng.integers(127, 130, rest))
    return classes


def measured(classes):
    watch = Watch(QUANTISER, RATE)
    watch.feed(classes)
    return watch.frames


def findings(classes, reference):
    return reference.findings(measured(classes))


@cache
def made(spoil, seed, make):
    """Returns the measures of a clip, which do not depend on the reference."""
    return measured(spoil(seed, make))


def last_sound(samples):
    """Returns the time in seconds of the last audible sample before the break."""
    return np.flatnonzero(np.abs(samples[: BREAK * RATE]) > 0.05 * np.abs(samples).max())[-1] / RATE


@pytest.fixture(scope="module", params=["training data", "defaults"])
def references(request):
    """Returns a reference for music and one for strings of words, measured or default."""
    if request.param == "defaults":
        return dict.fromkeys((music, words), Reference.defaults(QUANTISER))
    return {make: Reference.of([encode(make(1000 + i)) for i in range(20)], QUANTISER, RATE, "made") for make in (music, words)}


@pytest.mark.parametrize("make", [music, words])
@pytest.mark.parametrize(("spoil", "kind"), [(clean, None), (turning_to_noise, "noise"), (turning_silent, "silence")])
def test_made_clips_are_told_apart(spoil, kind, make, references):
    right = 0
    for seed in range(CLIPS):
        found = references[make].findings(made(spoil, seed, make))
        if kind is None:
            right += not found
            continue
        # A collapse to silence includes the pause before it.
        earliest = last_sound(make(seed)) if kind == "silence" else BREAK
        in_place = found and earliest - FRAME_SECONDS <= found[0].start <= BREAK + FRAME_SECONDS
        right += [f.kind for f in found] == [kind] and in_place and found[0].start + found[0].seconds == SECONDS
    assert right >= 19


@pytest.mark.parametrize("seed", range(5))
def test_a_rumble_of_the_level_of_the_music_is_noise(seed, references):
    """Noise below 400 Hz is far less flat than white noise, but flatter than music; only training data tells it from a low instrument."""
    if references[music].source == "defaults":
        pytest.skip("the defaults know no music")
    b, a = signal.butter(2, 400, fs=RATE)
    rumble = signal.lfilter(b, a, np.random.default_rng(seed).normal(size=SECONDS * RATE))
    rumble = rumble / np.abs(rumble).max()
    found = findings(encode(rumble), references[music])
    assert [f.kind for f in found] == ["noise"]
    assert found[0].seconds > SECONDS / 2


def test_a_steady_whistle_is_found_where_it_is(references):
    t, samples = np.arange(SECONDS * RATE) / RATE, music(0) / np.abs(music(0)).max()
    for seconds, expected in ((1.75, ["whistle"]), (0.5, [])):
        whistling = BREAK * RATE + np.arange(round(seconds * RATE))
        spoilt = samples.copy()
        spoilt[whistling] = 0.3 * samples[whistling] + 0.6 * np.sin(2 * np.pi * 2500 * t[whistling])
        found = [f for f in findings(encode(spoilt), references[music]) if f.kind == "whistle"]
        assert [f.kind for f in found] == expected
        assert all(abs(f.start - BREAK) <= FRAME_SECONDS and abs(f.seconds - seconds) <= 2 * FRAME_SECONDS for f in found)


def test_a_partial_that_moves_is_no_whistle(references):
    t = np.arange(SECONDS * RATE) / RATE
    sweep = np.sin(2 * np.pi * np.cumsum(2600 + 1000 * np.sin(2 * np.pi * 0.4 * t)) / RATE)
    assert not any(f.kind == "whistle" for f in findings(encode(sweep), references[music]))


def test_a_pause_is_no_collapse():
    reference = Reference.of([encode(music(1000 + i)) for i in range(5)], QUANTISER, RATE, "music")
    samples = music(0).copy()
    samples[RATE : RATE + RATE // 2] = 0
    assert not findings(encode(samples), reference)


def test_the_silence_that_training_data_has_is_usual():
    """Each training clip ends with 2 s of silence, so that 2 s are music and 4 s are not."""
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
    assert watch.frames.shape == (8, 4)
    level, flatness, entropy, whistle = watch.frames.T
    np.testing.assert_allclose(level[:4], 10 * np.log10(1 / 2), atol=0.1)
    np.testing.assert_allclose(level[4:], 10 * np.log10(1 / 3), atol=0.3)
    assert (flatness[:4] < -30).all()
    assert (flatness[4:] > -1).all()
    assert not whistle.any()  # too quiet, and noise
    np.testing.assert_allclose(entropy[:4], 3, atol=1e-6)  # a period of 8 samples
    # The entropy of 2,000 samples is (256 - 1) / (2 ln 2) / 2,000 bits less than 8 on average.
    np.testing.assert_allclose(entropy[4:], 8 - 0.092, atol=0.03)


@pytest.mark.parametrize("size", [1, 300, 2000, 2001])
def test_a_clip_is_measured_the_same_in_any_pieces(size):
    classes = clean(0)[:4500]
    whole, pieces = Watch(QUANTISER, RATE), Watch(QUANTISER, RATE)
    whole.feed(classes)
    for piece in classes.split(size):
        pieces.feed(piece)
        pieces.feed(piece[:0])
    assert np.array_equal(whole.frames, pieces.frames)
    assert whole.frames.shape == (2, 4)


def test_training_clips_too_short_for_a_frame_leave_the_defaults():
    quantiser = Quantiser(4)
    assert Reference.of([torch.zeros(100)], quantiser, RATE, "short") == Reference.defaults(quantiser)
    assert Reference.defaults(quantiser).entropy[2] < 4


def test_what_was_kept_before_a_measure_was_added_is_measured_again(tmp_path):
    Reference("music").keep(tmp_path)
    assert Reference.read(tmp_path) == Reference("music")
    kept = tmp_path / KEPT
    kept.write_text(json.dumps({key: value for key, value in json.loads(kept.read_text()).items() if key != "smooth_flatness"}))
    assert Reference.read(tmp_path) is None
