"""Synthetic music from a seed: plucked and struck strings playing chords and a melody.

A string is a sum of partials at whole multiples of its pitch, each decaying exponentially, the higher the faster. A plucked string's
partials follow its pluck position, |sin(pi k b)| / k^2; a struck one's fall as 1 / k^2, and it decays more slowly.
"""

from dataclasses import dataclass

import numpy as np

CHORDS = ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))  # I vi IV V, in semitones above the key
SCALE = (0, 2, 4, 7, 9)  # major pentatonic, consonant with these chords
ATTACK_SECONDS = 0.004
SILENT = 1e-3  # a partial ends when it has decayed to this fraction of its initial amplitude


@dataclass(frozen=True)
class Note:
    """A note: onset in seconds, frequency in Hz, amplitude > 0, plucked or struck."""

    onset: float
    frequency: float
    amplitude: float
    plucked: bool


def compose(seconds: float, rng: np.random.Generator) -> list[Note]:
    """Returns notes for `seconds` of music: struck chords every two beats, a plucked melody, random key and tempo."""
    beat = 60 / rng.uniform(90, 150)
    key = rng.integers(43, 55)  # MIDI number of the key: G2 to F#3
    degree, notes = int(rng.integers(4, 8)), []
    for i in range(int(np.ceil(seconds / (beat / 2)))):
        onset = i * beat / 2
        if i % 4 == 0:
            chord = CHORDS[rng.integers(len(CHORDS))]
            notes += [Note(onset, _pitch(key + step), rng.uniform(0.25, 0.4), plucked=False) for step in chord]
        if rng.random() < 0.7:
            degree = int(np.clip(degree + rng.integers(-2, 3), 2, 9))
            step = 12 * (degree // len(SCALE)) + SCALE[degree % len(SCALE)]
            notes.append(Note(onset, _pitch(key + step), rng.uniform(0.5, 1.0), plucked=True))
    return notes


def render(notes: list[Note], samples: int, sample_rate: int) -> np.ndarray:
    """Renders notes to float32 (samples,) with a peak of 0.8."""
    out = np.zeros(samples)
    for note in notes:
        start = round(note.onset * sample_rate)
        if start < samples:
            string = _string(note, samples - start, sample_rate)
            out[start : start + len(string)] += string
    peak = np.abs(out).max(initial=0.0)
    return (out * (0.8 / peak if peak else 1.0)).astype(np.float32)


def _pitch(midi: float) -> float:
    return 440 * 2 ** ((midi - 69) / 12)


def _string(note: Note, longest: int, sample_rate: int) -> np.ndarray:
    base, per_partial = (2.5, 1.2) if note.plucked else (1.2, 0.8)  # decay rates in 1/s
    partials = range(1, max(2, min(12, int(0.45 * sample_rate / note.frequency)) + 1))
    length = min(longest, int(-np.log(SILENT) / (base + per_partial) * sample_rate) + 1)
    out = np.zeros(length)
    for k in partials:
        strength = abs(np.sin(np.pi * k * 0.21)) / k**2 if note.plucked else k**-2.0
        decay = base + per_partial * k
        n = min(length, int(-np.log(SILENT) / decay * sample_rate) + 1)
        t = np.arange(n, dtype=np.float64) / sample_rate
        out[:n] += strength * np.exp((-decay * t).astype(np.float32)) * np.sin(2 * np.pi * k * note.frequency * t)
    attack = min(length, max(1, round(ATTACK_SECONDS * sample_rate)))
    out[:attack] *= np.linspace(0, 1, attack)
    return note.amplitude * out
