"""Whether long free runs of a trained model stay like the recordings that it was to learn from.

    python -m benchmarks.free_runs RUN [--recordings FOLDER] [--seconds 60] [--seeds 8] [--prompt 1] [--top_p 0.99] [--out DIR]

RUN is a run, a checkpoint or a voice. Each clip continues a piece of a test recording that is not silent. Clips, and excerpts of the test
split of their length, are measured alike and compared with the excerpts as a whole: the excerpts' own verdicts tell how strict the marks
are.

    level       of each window of 10 s, within 9 dB of the median of the excerpts' windows
    whistle     shorter than a second: a partial above 1.5 kHz that holds more than 40 % of the power and stays where it is
    flatness    spectral, the median of frames, within 4 dB of the excerpts'
    spectrum    the share of each octave from 62.5 Hz to the Nyquist rate in the power, within 6 dB of the excerpts'
    bits        per sample under the model, within 0.5 of the excerpts'

The offset, printed without a mark, is the largest mean of a second. Then all clips together are compared with all excerpts: the medians of
flatness and bits, the mean spectrum, the longest whistle, and

    steadiness  level of the last second over that of the first, the mean of the clips: within 6 dB
    onsets      per second: within a factor of 2
    pitches     power of each pitch class between 200 and 1,100 Hz: nearer to the excerpts' than to all alike
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from matplotlib.figure import Figure
from scipy.signal import find_peaks
from torch import Tensor

from benchmarks.timing import benchmark, header
from harmonicrnn import Voice, load
from harmonicrnn.audio import write_wav
from harmonicrnn.audio.folders import find_recordings
from harmonicrnn.errors import UserError
from harmonicrnn.generation.detectors import TINY, WHISTLE_HZ, WHISTLE_SECONDS, WHISTLE_SHARE, whistles
from harmonicrnn.generation.sampler import check_arguments, draw, generator, starting_states
from harmonicrnn.models import undivided

WINDOW_SECONDS, FRAME, HOP = 10, 1024, 512
LOWEST_BAND = 62.5  # Hz
SILENT = 20  # dB under the loudest piece of its recording: no prompt
LEVEL, FLATNESS, SPECTRUM, BITS = 9, 4, 6, 0.5  # marks: dB, dB, dB, bits per sample
STEADINESS, ONSETS = 6, 2  # marks: dB, a factor
FLUX_FRAME, FLUX_HOP = 0.064, 0.01  # seconds
PITCHED = 200, 1100  # Hz
PIECE = 1 << 12  # samples of each excerpt in one pass


@dataclass(frozen=True)
class Measures:
    """Of a clip: levels (W,) of its windows in dB, longest whistle in seconds, flatness in dB, power of each octave, bits per sample,
    offset, level of the last second over the first in dB, onsets per second, and the share of each pitch class (12,)."""

    levels: np.ndarray
    whistle: float
    flatness: float
    bands: np.ndarray
    bits: float
    offset: float
    steadiness: float
    onsets: float
    pitches: np.ndarray


def free_runs(
    run: Path,
    recordings: Path = Path("data/piano"),
    seconds: PositiveFloat = 60,
    seeds: PositiveInt = 8,
    prompt: NonNegativeFloat = 1,
    temperature: float | None = None,
    top_p: float = 0.99,
    bits: PositiveFloat = BITS,
    out: Path | None = None,
) -> None:
    """Draws clips, measures them, and says which pass.

    Args:
        run: Its folder, or a checkpoint.
        recordings: Folder with `test/`, as `benchmarks.recordings` makes it.
        seconds: Length of each clip.
        seeds: Clips, drawn together.
        prompt: Seconds of a recording that each clip continues; 0 for none, as voices are drawn from.
        temperature: Divides the logits; 0 takes the most likely class; null for the voice's own, which is 1 where it has none.
        top_p: Draws only among the most likely classes that hold this much of the probability.
        bits: Mark of the bits per sample.
        out: Folder for the clips, a picture of each (waveform and mel-spectrogram) and one of all spectrograms; null for none.
    """
    voice = load(run)
    temperature = voice.temperature if temperature is None else temperature
    check_arguments(seeds, 0, temperature, top_p, seconds)
    heard = [voice.classes(path) for path in find_recordings(recordings / "test")]
    if not heard:
        raise UserError(f"{recordings / 'test'}: there are no recordings to compare with")
    length = round(seconds * voice.sample_rate)
    real = excerpts(heard, length, seeds)
    before = round(prompt * voice.sample_rate)
    prompts = torch.stack([beginning(voice, heard, before, seed) for seed in range(seeds)]) if before else None
    header("numba")
    started = time.perf_counter()
    made, made_bits = continued(voice, prompts, seeds, length, temperature, top_p)
    print(f"clips    {seeds} of {seconds:g} s at {voice.sample_rate:,} Hz, drawn in {time.perf_counter() - started:.0f} s\n", flush=True)
    sounds = {"test": voice.quantiser.decode_centre(real).numpy(), "clip": voice.quantiser.decode_centre(made).numpy()}
    own = {"test": bits_of(voice, real), "clip": made_bits}
    rows = {name: [measured(x, voice.sample_rate, b) for x, b in zip(sounds[name], own[name], strict=True)] for name in sounds}
    usual = usual_of(rows["test"])
    print(f"usual    level {usual.levels.item():.1f} dB, flatness {usual.flatness:.1f} dB, {usual.bits:.2f} bits/sample")
    passed = {name: [verdict(f"{name} {i}", row, usual, bits) for i, row in enumerate(each)] for name, each in rows.items()}
    together(usual_of(rows["clip"]), usual, bits)
    if out is not None:
        for i, sound in enumerate(sounds["clip"]):
            write_wav(out / f"clip_{i}.wav", sound, voice.sample_rate)
            portrait(out / f"clip_{i}.png", sound, voice.sample_rate)
        picture(out / "spectrograms.png", [sounds["test"][0], *sounds["clip"]], voice.sample_rate)
    counts = ", ".join(f"{sum(each)} of {len(each)} {what}" for each, what in ((passed["clip"], "clips"), (passed["test"], "excerpts")))
    print(f"overall  {'pass' if all(passed['clip']) else 'fail'}: {counts}")


def excerpts(heard: Sequence[Tensor], length: int, most: int) -> Tensor:
    """Pieces (N, length) of all recordings in a row, spread evenly over them, at most so many; raises UserError where there is none."""
    joined = torch.cat(list(heard))
    count = min(most, len(joined) // length)
    if not count:
        raise UserError(f"the test split holds {len(joined):,} samples, fewer than the {length:,} of a clip: give fewer seconds")
    return torch.stack([joined[i * len(joined) // count :][:length] for i in range(count)])


def beginning(voice: Voice, heard: Sequence[Tensor], length: int, seed: int) -> Tensor:
    """A piece (length,) of a recording, each seed's of another as far as there are, not silent; raises UserError where none is as long."""
    long = [classes for classes in heard if len(classes) >= length]
    if not long or not length:
        raise UserError(f"a prompt of {length:,} samples: give at least one, and no more than the {max(map(len, heard)):,} of a recording")
    recording = long[seed % len(long)]
    pieces = recording[: len(recording) // length * length].view(-1, length)
    levels = level(voice.quantiser.decode_centre(pieces).numpy())
    return pieces[np.random.default_rng(seed).choice(np.flatnonzero(levels >= levels.max() - SILENT))]


def continued(
    voice: Voice, prompts: Tensor | None, seeds: int, length: int, temperature: float, top_p: float
) -> tuple[Tensor, list[float]]:
    """What follows prompts (seeds, P), or nothing: classes (seeds, length), and the bits per sample of each under the model."""
    engine = voice.engine()
    engine.start(starting_states(voice.net, prompts)(range(seeds)))
    drawn = list(draw(engine, length, [generator(seed, 0) for seed in range(seeds)], temperature, top_p))
    classes, nats = (torch.cat(parts, dim=1) for parts in zip(*drawn, strict=True))
    return classes, (nats.mean(dim=1) / math.log(2)).tolist()


@torch.inference_mode()
def bits_of(voice: Voice, classes: Tensor) -> list[float]:
    """Bits per sample of each lane of classes (B, T) under the model."""
    state, total = None, torch.zeros(len(classes), dtype=torch.float64)
    with undivided(voice.net):
        for piece in classes.split(PIECE, dim=1):
            nats, state = voice.net.nats(piece, state)
            total += nats.sum(dim=1, dtype=torch.float64)
    return (total / classes.shape[1] / math.log(2)).tolist()


def level(samples: np.ndarray) -> np.ndarray:
    """dB under full scale along the last axis, the mean left out."""
    decibels: np.ndarray = 10 * np.log10(samples.var(axis=-1, dtype=np.float64) + TINY)
    return decibels


def windows(samples: np.ndarray, length: int) -> np.ndarray:
    """Windows (W, length) one after the other; one of all samples where they are fewer."""
    length = min(length, len(samples))
    return samples[: len(samples) // length * length].reshape(-1, length)


def measured(samples: np.ndarray, rate: int, bits: float) -> Measures:
    """The measures of samples (T,)."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (0, max(0, FRAME - len(samples)))), FRAME)[::HOP]
    spectra = np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * np.hanning(FRAME), axis=1)
    frequencies, power = np.fft.rfftfreq(FRAME, 1 / rate)[1:], np.abs(spectra[:, 1:]) ** 2 + TINY
    strongest = power.argmax(axis=1)
    partial = sum(np.take_along_axis(np.pad(power, ((0, 0), (1, 1))), strongest[:, None] + i, axis=1)[:, 0] for i in range(3))
    steady = (partial > WHISTLE_SHARE * power.sum(axis=1)) & (frequencies[strongest] > WHISTLE_HZ)
    longest = max((length for _, length in whistles(np.where(steady, frequencies[strongest], 0))), default=0)
    flatness = 10 * np.log10(np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1))
    edges = LOWEST_BAND * 2.0 ** np.arange(math.ceil(math.log2(rate / 2 / LOWEST_BAND)))
    bands = np.histogram(frequencies, [*edges, rate], weights=power.mean(axis=0))[0]
    offset = np.abs(windows(samples, rate).mean(axis=1)).max()
    levels, seconds = level(windows(samples, WINDOW_SECONDS * rate)), level(windows(samples, rate))
    change, flat = float(seconds[-1] - seconds[0]), float(np.median(flatness))
    found = onsets(samples, rate) / (len(samples) / rate)
    return Measures(levels, longest * HOP / rate, flat, bands, bits, float(offset), change, found, pitch_classes(samples, rate))


def spectra_of(samples: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Magnitudes (frames, length / 2 + 1) of samples (T,), which are padded where they are fewer."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (0, max(0, length - len(samples)))), length)[::hop]
    magnitudes: np.ndarray = np.abs(np.fft.rfft(frames * np.hanning(length), axis=1))
    return magnitudes


def onsets(samples: np.ndarray, rate: int) -> int:
    """How often the spectrum rises: peaks of the mean rise of its logarithm over 30 ms, at least 80 ms apart."""
    logarithms = np.log10(spectra_of(samples, round(FLUX_FRAME * rate), round(FLUX_HOP * rate)) + 0.05)
    rise = np.maximum(logarithms[3:] - logarithms[:-3], 0).mean(axis=1)
    return len(find_peaks(rise, height=0.06, distance=8, prominence=0.04)[0])


def pitch_classes(samples: np.ndarray, rate: int) -> np.ndarray:
    """The share (12,) of each pitch class, C first, in the power between 200 and 1,100 Hz, from frames of half a second."""
    power = (spectra_of(samples, rate // 2, rate // 4) ** 2).sum(axis=0)
    frequencies = np.fft.rfftfreq(rate // 2, 1 / rate)
    inside = (frequencies >= PITCHED[0]) & (frequencies <= PITCHED[1])
    classes = np.round(69 + 12 * np.log2(frequencies[inside] / 440)).astype(int) % 12
    shares = np.bincount(classes, power[inside], 12) + TINY
    return shares / shares.sum()


def usual_of(rows: Sequence[Measures]) -> Measures:
    """What clips are compared with: medians of levels and flatness, the largest whistle and offset, means of the others."""
    how = {"whistle": np.max, "flatness": np.median, "offset": np.max}
    names = [field.name for field in fields(Measures) if field.name != "levels"]
    pooled = {name: how.get(name, np.mean)([getattr(row, name) for row in rows], axis=0) for name in names}
    return Measures(np.median(np.concatenate([row.levels for row in rows]), keepdims=True), **pooled)


def together(clips: Measures, usual: Measures, bits: float) -> None:
    """Prints how all clips together compare with all excerpts, and which marks they pass."""
    found, missed = failures(clips, usual, bits)
    factor = (clips.onsets + TINY) / (usual.onsets + TINY)
    far = [float(np.abs(clips.pitches - other).sum()) for other in (usual.pitches, np.full(12, 1 / 12))]
    steady, often = abs(clips.steadiness) <= STEADINESS, 1 / ONSETS <= factor <= ONSETS
    rows = [
        ("flatness", f"{clips.flatness:.1f} dB, excerpts {usual.flatness:.1f}", f"{FLATNESS} dB", "flatness" not in missed),
        ("steadiness", f"{clips.steadiness:+.1f} dB, excerpts {usual.steadiness:+.1f}", f"{STEADINESS} dB", steady),
        ("spectrum", f"{found['spectrum']:+.1f} dB in one octave, less in others", f"{SPECTRUM} dB", "spectrum" not in missed),
        ("whistle", f"{clips.whistle:.2f} s, excerpts {usual.whistle:.2f}", f"{WHISTLE_SECONDS} s", "whistle" not in missed),
        ("onsets", f"{clips.onsets:.2f} a second, excerpts {usual.onsets:.2f}", f"a factor of {ONSETS}", often),
        ("pitches", f"{far[0]:.2f} from the excerpts', {far[1]:.2f} from uniform", "nearer", far[0] < far[1]),
        ("bits", f"{clips.bits:.2f}, excerpts {usual.bits:.2f}", f"{bits:g}", "bits" not in missed),
    ]
    for name, shown, mark, passes in rows:
        print(f"{'pass' if passes else 'FAIL'}  {name:11s} {shown}  (mark: {mark})")


def failures(row: Measures, usual: Measures, bits: float) -> tuple[dict[str, float], list[str]]:
    """By how much each measure differs, where that is the most; and the names of those that miss their marks."""
    shares = [10 * np.log10(each.bands / each.bands.sum() + TINY) for each in (row, usual)]
    moved = {"level": row.levels - usual.levels, "spectrum": shares[0] - shares[1]}
    found = {name: float(each[np.abs(each).argmax()]) for name, each in moved.items()}
    found |= {"whistle": row.whistle, "flatness": row.flatness - usual.flatness, "bits": row.bits - usual.bits}
    marks = {"level": LEVEL, "spectrum": SPECTRUM, "flatness": FLATNESS, "bits": bits}
    missed = [name for name, mark in marks.items() if not abs(found[name]) <= mark]
    return found, missed + (["whistle"] if row.whistle >= WHISTLE_SECONDS else [])


def verdict(name: str, row: Measures, usual: Measures, bits: float) -> bool:
    """Prints a row; returns whether it passes."""
    found, missed = failures(row, usual, bits)
    shown = [f"{measure} {found[measure]:+.1f} dB" for measure in ("level", "flatness", "spectrum")]
    shown += [f"bits {found['bits']:+.2f}", f"whistle {row.whistle:.2f} s", f"offset {row.offset:.3f}"]
    print(f"{name:8s} {'; '.join(shown)}: {'fails by ' + ', '.join(missed) if missed else 'pass'}", flush=True)
    return not missed


def portrait(path: Path, sound: np.ndarray, rate: int) -> None:
    """A clip's waveform, and its mel-spectrogram in dB under the peak."""
    from harmonicrnn.evaluation.figures import show_mel  # here, as only this needs it

    figure = Figure(figsize=(9, 3), dpi=90, layout="constrained")
    wave, mel = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    wave.plot(np.arange(len(sound)) / rate, sound, linewidth=0.4)
    wave.set(ylim=(-1, 1), ylabel="amplitude")
    show_mel(mel, torch.from_numpy(sound), rate)
    mel.set(xlabel="seconds", ylabel="Hz")
    figure.savefig(path)


def picture(path: Path, sounds: Sequence[np.ndarray], rate: int) -> None:
    """Spectrograms one below the other, the first of an excerpt."""
    figure = Figure(figsize=(14, 2.2 * len(sounds)), layout="tight")
    for i, (axes, sound) in enumerate(zip(figure.subplots(len(sounds), 1), sounds, strict=True)):
        with np.errstate(divide="ignore"):  # digital silence is -inf dB, drawn as the lowest
            axes.specgram(np.pad(sound, (0, max(0, FRAME - len(sound)))), NFFT=FRAME, noverlap=HOP, Fs=rate, vmin=-140, vmax=-30)
        axes.set_ylabel("test" if i == 0 else f"clip {i - 1}")
    figure.savefig(path, dpi=60)


if __name__ == "__main__":
    raise SystemExit(benchmark(free_runs))
