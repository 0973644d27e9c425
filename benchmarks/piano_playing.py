"""Piano performances of scores: MIDI events from notes, rendered by fluidsynth."""

import hashlib
import math
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from benchmarks.piano_scores import Note, Score, read_notes
from harmonicrnn.errors import UserError

LONGEST, LEAD = 240.0, 0.05  # seconds: maximum length of a piece, and silence before its first note
TAIL, FADED = 3.0, 0.002  # seconds for the last note to decay; the end below this share of the peak is cut off
SOUND_FONT_RATE = 44_100  # Hz; the rendering rate, since fluidsynth has no anti-aliasing filter
SETTINGS = {
    "audio.file.type": "wav",
    "audio.file.format": "float",
    "synth.chorus.active": "0",
    "synth.gain": "1.5",
    "synth.cpu-cores": "1",
    "synth.dynamic-sample-loading": "1",  # a piano needs little of the sound font
}
PEDAL_UP, PEDAL_DOWN = b"\xb0\x40\x00", b"\xb0\x40\x7f"


@dataclass(frozen=True)
class Event:
    """A MIDI message on the first channel; `at` is its time in milliseconds."""

    at: int
    message: bytes


def render(score: Score, font: Path, sample_rate: int) -> np.ndarray:
    """Returns the samples of a performance, float32 (samples,) in [-1, 1]; deterministic.

    Raises:
        UserError: If the score cannot be read or fluidsynth fails.
    """
    rng = np.random.default_rng(int(hashlib.sha256(score.name.encode()).hexdigest()[:16], 16))
    notes, beats = read_notes(score)
    events = perform(notes, beats, rng)
    room = {"room-size": rng.uniform(0.1, 0.9), "damp": rng.uniform(0, 0.6), "width": rng.uniform(0, 1), "level": rng.uniform(0.05, 0.5)}
    settings = {f"synth.reverb.{name}": f"{value:.4f}" for name, value in room.items()}
    return play(events, score, font, sample_rate, SOUND_FONT_RATE, settings)


def play(events: Sequence[Event], score: Score, font: Path, sample_rate: int, rate: int, settings: dict[str, str]) -> np.ndarray:
    """Renders events with fluidsynth at `rate` and resamples to `sample_rate`; returns float32 (samples,) with a peak of at most 0.98.

    Raises:
        UserError: If fluidsynth fails; the message names the score.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "score.mid", Path(folder) / "sound.wav"
        source.write_bytes(midi_file(events))
        options = [option for name, value in (settings | SETTINGS).items() for option in ("-o", f"{name}={value}")]
        command = ["fluidsynth", "-ni", "-q", "-r", str(rate), *options, "-F", str(target), str(font), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode or not target.is_file():
            raise UserError(f"{score.path}: fluidsynth cannot render it: {done.stderr.strip() or done.stdout.strip()}")
        mono = soundfile.read(target, dtype="float32", always_2d=True)[0].mean(axis=1)
    samples = soxr.resample(mono, rate, sample_rate, quality="HQ")
    peak = float(np.abs(samples).max())
    end = np.flatnonzero(np.abs(samples) >= FADED * peak)[-1] + 1
    return samples[:end] / max(1.0, peak / 0.98)


def perform(notes: Sequence[Note], beats: float, rng: np.random.Generator) -> list[Event]:
    """Returns the sorted MIDI events of a performance with varying loudness, louder top notes and, in half of the pieces, pedal.

    Args:
        notes: Notes sorted by start and pitch, without overlaps of the same pitch.
        beats: Approximate tempo in quarters per minute.
        rng: Source of the random choices.
    """
    first, end = notes[0].start, max(note.start + note.length for note in notes)
    seconds = clock(first, end, beats, rng)
    loudness, swell, period = rng.uniform(40, 85), rng.uniform(4, 16), rng.choice([8, 12, 16])
    legato, uneven, leading = rng.uniform(0.75, 1.02), rng.uniform(0.002, 0.015), rng.uniform(2, 12)
    pedal = rng.random() < 0.5
    played = [note for note in notes if seconds(note.start) < LONGEST]
    struck = [max(0.0, seconds(note.start) + rng.normal(0, uneven)) for note in played]
    tops = {note.start: note.pitch for note in played}  # the last note of a chord is its highest
    again: dict[int, float] = {}  # next time at which a key is struck
    events: list[Event] = []
    for note, on in zip(reversed(played), reversed(struck), strict=True):
        off = min(max(on + 0.04, seconds(note.start + note.length * legato)), again.get(note.pitch, math.inf) - 0.01)
        again[note.pitch] = on
        force = loudness + swell * np.sin(2 * np.pi * note.start / period) + rng.normal(0, 3) + leading * (tops[note.start] == note.pitch)
        if off > on + 0.001:
            events.append(Event(round(1000 * on), bytes([0x90, note.pitch, int(np.clip(force, 12, 124))])))
            events.append(Event(round(1000 * off), bytes([0x80, note.pitch, 0])))
    if pedal:
        for beat in np.arange(first, played[-1].start):
            events.append(Event(round(1000 * seconds(beat)), PEDAL_UP))
            events.append(Event(round(1000 * seconds(beat)) + 80, PEDAL_DOWN))
        events.append(Event(max(event.at for event in events), PEDAL_UP))
    return sorted(events, key=lambda event: event.at)


def clock(first: float, end: float, beats: float, rng: np.random.Generator) -> Callable[[float], float]:
    """Returns a function from quarters to seconds; the tempo is within 20 % of `beats`, varies by a few percent and slows at the end."""
    pace = np.clip(beats, 50, 150) * rng.uniform(0.8, 1.2)
    grid = np.arange(first, end + 1, 0.125)
    sway = 1 + rng.uniform(0.02, 0.08) * np.sin(2 * np.pi * grid / rng.choice([8, 12, 16]) + rng.uniform(0, 2 * np.pi))
    slowing = 1 - rng.uniform(0.1, 0.4) * np.clip((grid - (end - 4)) / 4, 0, 1)
    seconds = np.concatenate([[0], np.cumsum(0.125 * 60 / (pace * sway * slowing))[:-1]]) + LEAD
    return lambda quarters: float(np.interp(quarters, grid, seconds))


def midi_file(events: Sequence[Event]) -> bytes:
    """Returns a Standard MIDI File with one track of grand piano: the events, and time for the last note to decay; a tick is 1 ms."""
    track, now = bytearray(b"\x00\xff\x51\x03" + (500_000).to_bytes(3, "big") + b"\x00\xc0\x00"), 0
    for event in events:
        track += variable(event.at - now) + event.message
        now = event.at
    # A last message delays the end: fluidsynth stops at the last message before the end of the track.
    track += variable(round(1000 * TAIL)) + PEDAL_UP + b"\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 500) + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def variable(number: int) -> bytes:
    """Returns a number as a MIDI variable-length quantity: 7 bits per byte, the high bit set in all but the last."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F | 0x80)
    return bytes(reversed(groups))
