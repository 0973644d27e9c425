"""Melodies for the piano, one note at a time and in one tempo: the highest voice of Bach's chorales, in C major or A minor.

They are much simpler than piano music, so that a model of a million parameters can learn them on two cores. Each note begins on a grid of
80 ms, a whole number of synthesizer blocks and of samples at 8 kHz, has the same velocity, and ends before the next one.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.corpus import Piece
from benchmarks.piano_playing import Event, play
from benchmarks.piano_scores import Note, Score, joined, one_keyboard, parse, scores

COMPOSER = "bach"
QUARTER, LEAD, LONGEST = 0.64, 0.064, 150.0  # seconds: a quarter note, before the first note, latest start of a note
LOWEST, HIGHEST = 59, 81  # MIDI pitches; melodies that leave this range are skipped
MIDDLE = 72  # a melody is moved to the octave nearest to this pitch
FORCE, LEGATO = 80, 0.97  # MIDI velocity; share of a note's length for which the key is down
RATE = 48_000  # Hz, a multiple of 16 and 8 kHz
SAME = 16  # notes: melodies with the same first ones count as the same tune
REST = 0.1  # melodies with a larger share of rests are skipped
DRY = {"synth.reverb.active": "0"}
ABOUT = """
The highest voices of Bach's chorales, moved to C major or A minor, each note as loud as the next, a quarter lasting 0.64 s, on the acoustic
grand piano of the sound font Fluid R3, without reverberation. Of melodies that begin with the same 16 notes the first is taken, so that no
split holds another's tune."""


def pieces(font: Path, sample_rate: int) -> list[Piece]:
    """Returns a piece for each melody, sorted by name.

    Raises:
        UserError: If music21 is not installed or cannot read a score.
    """
    found: dict[tuple[tuple[float, int], ...], Piece] = {}
    for score in scores():
        if score.name.split("-")[0] == COMPOSER and (notes := highest_voice(score)):
            beginning = tuple((note.length, note.pitch) for note in notes[:SAME])
            found.setdefault(beginning, Piece(score.name, score.credit, partial(render, score, notes, font, sample_rate)))
    return list(found.values())


def highest_voice(score: Score) -> list[Note]:
    """Returns the notes of the highest voice in C major or A minor; empty if they leave the range or have too many rests."""
    parsed = parse(score)
    key = parsed.analyze("key")
    down = (key.tonic.pitchClass - (0 if key.mode == "major" else 9)) % 12
    notes = one_keyboard(joined((list(parsed.parts) or [parsed])[0].flatten().notes))
    median = np.median([note.pitch for note in notes])
    by = min((-down + octave for octave in (-12, 0, 12, 24)), key=lambda by: abs(median + by - MIDDLE))
    # One note at a time: a note ends where the next begins, and the highest of simultaneous notes is kept.
    moved = [Note(note.start, note.length, note.pitch + by) for note in notes]
    heard = [
        Note(note.start, min(note.length, after.start - note.start), note.pitch)
        for note, after in zip(moved, [*moved[1:], moved[-1]], strict=True)
        if after.start > note.start or note is moved[-1]
    ]
    heard[-1] = moved[-1]
    sounding, end = sum(note.length for note in heard), max(note.start + note.length for note in heard)
    fits = all(LOWEST <= note.pitch <= HIGHEST for note in heard)
    return heard if fits and sounding >= (1 - REST) * end else []


def render(score: Score, notes: Sequence[Note], font: Path, sample_rate: int) -> np.ndarray:
    """Returns the samples of a melody, float32 (samples,) in [-1, 1]; deterministic.

    Raises:
        UserError: If fluidsynth fails.
    """
    events = []
    for note in notes:
        on, off = (LEAD + QUARTER * (note.start + share * note.length) for share in (0, LEGATO))
        if on < LONGEST:
            events.append(Event(round(1000 * on), bytes([0x90, note.pitch, FORCE])))
            events.append(Event(round(1000 * off), bytes([0x80, note.pitch, 0])))
    return play(sorted(events, key=lambda event: event.at), score, font, sample_rate, RATE, DRY)
