"""Tests of rendering piano from scores: selection of scores, their notes and the playing, without music21 and fluidsynth."""

import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from benchmarks import piano_playing, piano_scores
from benchmarks.piano_playing import LEAD, LONGEST, PEDAL_DOWN, midi_file, perform, variable
from benchmarks.piano_scores import Note, Score, allowed, joined, one_keyboard, scores
from harmonicrnn.errors import UserError

SHELL, COPY = shutil.which("sh"), shutil.which("cp")


def score(*statements):
    return "<score-partwise>" + "".join(statements) + "<part/></score-partwise>"


def rights(words):
    return f"<rights>{words}</rights>"


def credit(words):
    return f'<credit-words font-size="8">{words}</credit-words>'


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        (score(), ""),
        (score(credit("Sonata in A"), credit("PDF © 2004 Margaret Greentree\nwww.jsbchorales.net")), ""),
        (score(rights("Released to Public Domain in 1998")), "Released to Public Domain in 1998"),
        (
            score(credit("Typeset by C and\nreleased under the CC BY-SA 4.0 license.")),
            "Typeset by C and released under the CC BY-SA 4.0 license.",
        ),
        (score(rights("© 2014, Creative Commons License (CC-BY)")), "© 2014, Creative Commons License (CC-BY)"),
        (score(rights("All Rights Reserved")), None),
        (score(rights("http://example.org/score/1")), None),
        (score(rights("CC BY-NC 4.0")), None),
        (score(rights("CC0"), credit("Copyright © Ada")), None),
        (score(credit("x" * 3_000_000)), None),
    ],
)
def test_scores_are_used_by_what_their_files_state(text, statement):
    assert allowed(text) == statement


def test_the_used_scores_are_those_of_the_installed_package(tmp_path, monkeypatch):
    bach = tmp_path / "music21/corpus/bach"
    bach.mkdir(parents=True)
    (tmp_path / "music21/__init__.py").touch()
    for name in ("bwv2.6.xml", "bwv1.5-a.xml", "bwv1.5-b.xml"):
        (bach / name).write_text(score())
    (bach / "bwv9.xml").write_text(score(rights("All rights reserved")))
    (bach / "bwv3.krn").write_text("!!!COM: Bach")
    with zipfile.ZipFile(bach / "bwv10.7.mxl", "w") as file:
        file.writestr("META-INF/container.xml", rights("All rights reserved"))
        file.writestr("a.xml", score(rights("CC0")))
    (tmp_path / "music21/corpus/unknown").mkdir()
    (tmp_path / "music21/corpus/unknown/a.xml").write_text(score())
    monkeypatch.syspath_prepend(tmp_path)
    found = scores()
    assert [each.name for each in found] == ["bach-bwv1.5-a", "bach-bwv10.7", "bach-bwv2.6"]
    assert found[1].credit == "Johann Sebastian Bach (1685-1750); bach/bwv10.7.mxl; CC0"
    assert found[2].path == bach / "bwv2.6.xml"


def test_without_music21_that_is_said(monkeypatch):
    monkeypatch.setattr(piano_scores, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="piano needs the Python package music21: pip install music21"):
        scores()


def element(offset, length, *pitches, tie=None, kind="Note"):
    """Returns a stand-in for a music21 note or chord."""
    members = [SimpleNamespace(pitch=SimpleNamespace(midi=pitch), tie=tie and SimpleNamespace(type=tie)) for pitch in pitches]
    chord = SimpleNamespace(offset=offset, quarterLength=length, tie=members[0].tie, classes=(kind,))
    if len(members) > 1:
        chord.notes = members
    else:
        chord.pitch = members[0].pitch
    return chord


def test_tied_notes_are_one_and_chords_are_several():
    notes = joined(
        [
            element(0, 4, 60, tie="start"),
            element(4, 4, 60, 64, tie="continue"),
            element(8, 1, 60, tie="stop"),
            element(9, 1, 60),
            element(10, 1, 62, tie="stop"),  # ends a tie of a note that never began
            element(11, 0, 65),
            element(11, 4, 48, 52, kind="ChordSymbol"),
        ]
    )
    assert notes == [Note(0, 9, 60), Note(4, 4, 64), Note(9, 1, 60), Note(10, 1, 62), Note(11, 0.125, 65)]


def test_a_key_is_struck_once_at_a_time():
    notes = one_keyboard([Note(2, 1, 60), Note(0, 1, 60), Note(0, 4, 60), Note(0, 1, 72), Note(1, 1, 20), Note(1, 1, 109)])
    assert notes == [Note(0, 2, 60), Note(0, 1, 72), Note(2, 1, 60)]


REPEATED = [Note(i / 4, 0.25, pitch) for i in range(400) for pitch in (48, 60 + i % 3)]


@pytest.mark.parametrize("seed", range(12))
def test_a_player_lifts_each_key_before_striking_it_again(seed):
    down, seconds, velocities = set(), [], []
    events = perform(REPEATED, 120, np.random.default_rng(seed))
    assert [event.at for event in events] == sorted(event.at for event in events)
    for event in events:
        kind, key, velocity = event.message
        if kind == 0x90:
            assert key not in down
            down.add(key)
            seconds.append(event.at / 1000)
            velocities.append(velocity)
        elif kind == 0x80:
            down.remove(key)
    assert not down
    assert len(seconds) == len(REPEATED)
    assert abs(seconds[0] - LEAD) < 0.1
    assert 100 * 60 / 120 / 1.2 / 1.1 < seconds[-1] < 100 * 60 / 120 / 0.8 * 1.1 + 2
    assert len(set(velocities)) > 5
    assert all(12 <= velocity <= 124 for velocity in velocities)


def test_each_piece_is_played_in_its_own_way_and_each_time_in_the_same():
    plays = [perform(REPEATED, 120, np.random.default_rng(seed)) for seed in range(12)]
    assert plays[3] == perform(REPEATED, 120, np.random.default_rng(3))
    assert len({max(event.at for event in play) for play in plays}) == 12
    pedals = sum(any(event.message == PEDAL_DOWN for event in play) for play in plays)
    assert 0 < pedals < 12


def test_long_pieces_end():
    events = perform([Note(i, 1, 60) for i in range(1000)], 60, np.random.default_rng(0))
    assert LONGEST - 2 < max(event.at for event in events) / 1000 < LONGEST + 2


@pytest.mark.parametrize(("number", "coded"), [(0, "00"), (127, "7f"), (128, "8100"), (16383, "ff7f"), (16384, "818000")])
def test_numbers_have_the_bytes_of_the_midi_standard(number, coded):
    assert variable(number).hex() == coded


def test_a_midi_file_counts_its_bytes_and_begins_with_the_grand_piano():
    events = [piano_playing.Event(50, bytes([0x90, 60, 64])), piano_playing.Event(300, bytes([0x80, 60, 0]))]
    content = midi_file(events)
    assert content[:14].hex() == "4d546864" + "00000006" + "0000" + "0001" + "01f4"
    assert int.from_bytes(content[18:22], "big") == len(content) - 22
    assert content[22:].hex() == "00ff510307a120" + "00c000" + "32903c40" + "817a803c00" + "9738b04000" + "00ff2f00"


@pytest.fixture
def synthesizer(tmp_path, monkeypatch):
    """Replaces fluidsynth by a program that writes a decaying stereo tone with a peak of 2, and music21 by fixed notes."""
    time = np.arange(3 * 44_100) / 44_100
    tone = np.exp(-8 * time) * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "tone.wav", np.stack([4 * tone, 0 * tone], axis=1), 44_100, "FLOAT")
    copies = f'{COPY} {tmp_path}/tone.wav "$2"; {COPY} "$4" {tmp_path}/heard.mid'
    (tmp_path / "fluidsynth").write_text(f'#!{SHELL}\nwhile [ "$1" != -F ]; do shift; done\n{copies}\n')
    (tmp_path / "fluidsynth").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(piano_playing, "read_notes", lambda score: (REPEATED, 100.0))
    return tmp_path


def test_a_rendering_is_resampled_and_ends_with_its_sound(synthesizer):
    samples = piano_playing.render(Score("a", synthesizer / "a.mxl", ""), synthesizer / "font.sf2", 16_000)
    assert samples.dtype == np.float32
    assert abs(np.abs(samples).max() - 0.98) < 1e-3
    assert abs(len(samples) / 16_000 - np.log(1 / piano_playing.FADED) / 8) < 0.02
    assert (synthesizer / "heard.mid").read_bytes()[:4] == b"MThd"
    first = (synthesizer / "heard.mid").read_bytes()
    for name, same in (("a", True), ("b", False)):
        piano_playing.render(Score(name, synthesizer / "a.mxl", ""), synthesizer / "font.sf2", 16_000)
        assert ((synthesizer / "heard.mid").read_bytes() == first) == same


def test_a_synthesizer_that_fails_is_told_of(synthesizer):
    (synthesizer / "fluidsynth").write_text(f"#!{SHELL}\necho no such font >&2; exit 1\n")
    with pytest.raises(UserError, match=r"a\.mxl: fluidsynth cannot render it: no such font"):
        piano_playing.render(Score("a", synthesizer / "a.mxl", ""), synthesizer / "font.sf2", 16_000)
