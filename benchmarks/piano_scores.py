"""Piano scores: which scores of music21 may be used, and their notes."""

import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harmonicrnn.errors import UserError

COMPOSERS = {
    "bach": "Johann Sebastian Bach (1685-1750)",
    "beethoven": "Ludwig van Beethoven (1770-1827)",
    "corelli": "Arcangelo Corelli (1653-1713)",
    "cpebach": "Carl Philipp Emanuel Bach (1714-1788)",
    "handel": "George Frideric Handel (1685-1759)",
    "haydn": "Joseph Haydn (1732-1809)",
    "liliuokalani": "Liliuokalani (1838-1917)",
    "lusitano": "Vicente Lusitano (died after 1561)",
    "mozart": "Wolfgang Amadeus Mozart (1756-1791)",
    "schumann_clara": "Clara Schumann (1819-1896)",
    "schumann_robert": "Robert Schumann (1810-1856)",
}
"""Folders of music21's corpus, with their composers."""
COPIES = frozenset(
    {
        "bach-bwv137.5",  # as 120.8, in another key
        "bach-bwv227.11",  # as 227.1
        "bach-bwv244.17",  # as 244.15, in another key
        "bach-bwv279",  # as 158.4
        "bach-bwv398",  # as 197.7
        "bach-bwv414",  # as 253
        "bach-bwv62.6",  # as 274
        "schumann_robert-opus48no2",  # as dichterliebe_no2
    }
)
"""Pieces of which another piece repeats more than half, in any key; skipped, so that no piece is in two splits."""
ABOUT = """
Scores from the corpus of the Python package music21 (https://www.music21.org), played on the acoustic grand piano of the sound font Fluid
R3 by fluidsynth, each in a tempo, touch and room of its own, drawn by its name. Quartets and choir pieces are played from the score, all
parts by the piano. Pieces end after four minutes. Those that repeat another one are left out, but hymn tunes come back in several of
Bach's chorales, with other harmonies, also across the splits."""
LICENCE = """

## Licence

The composers died more than a hundred years ago. music21 says of its scores (`corpus/license.txt`) that they are "distributed with the
permission of the encoders", that "the encodings may be under copyright but have been licensed for use, though there may be restrictions
on commercial use", and that terms of single pieces stand in their files. Used is a score

- whose file states in `<rights>`, and in credits that speak of rights, nothing but the public domain, CC0, CC BY or CC BY-SA: the
  statement then ends the piece's line below, and renderings of pieces under CC BY or CC BY-SA are under the same licence;
- or whose file states nothing of the kind, apart from "PDF © Margaret Greentree", which is of the printed page, not of the notes.

Left out are all others: rights reserved, an address in place of a licence, folders with terms of their own, arrangements by others; and
scores of more than 3 MB. Before you distribute or sell what is made of them, look at these statements yourself.

The sound font Fluid R3 GM is under the MIT licence: Copyright 2000-2002, 2008 Frank Wen, 2008 Toby Smithe
(/usr/share/doc/fluid-soundfont-gm/copyright).
"""
FREE = re.compile(r"public domain|\bCC0\b|\bCC[- ]BY\b(?![- ]N)", re.IGNORECASE)
RIGHTS = re.compile(r"copyright|©|licen[sc]e|rights|public domain|CC0", re.IGNORECASE)
PRINTED_PAGE = re.compile(r"PDF ?© ?\d* Margaret Greentree")
LARGEST = 3_000_000  # characters of MusicXML; larger files are mostly whole quartets, of which only the first minutes would be used
BEATS = {"bach": 76.0}
"""Tempo in quarters per minute, by folder; other scores use their first tempo mark, or `USUAL` without one."""
USUAL = 96.0


@dataclass(frozen=True)
class Score:
    """A piece of the corpus: its name for files, its path, and its credit (composer, source and licence)."""

    name: str
    path: Path
    credit: str


@dataclass(frozen=True)
class Note:
    """A note: start and length in quarters, and MIDI pitch."""

    start: float
    length: float
    pitch: int


def scores() -> list[Score]:
    """Returns the scores that may be used, sorted by name; only the first of several versions of a piece (`bwv1-a`, `bwv1-b`).

    Raises:
        UserError: If music21 or its corpus is not installed.
    """
    spec = find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("piano needs the Python package music21: pip install music21")
    corpus = Path(spec.submodule_search_locations[0]) / "corpus"
    found: dict[str, Score] = {}
    for folder, composer in COMPOSERS.items():
        for path in sorted((corpus / folder).rglob("*")):
            if path.suffix in (".mxl", ".xml", ".musicxml"):
                name = "-".join(path.relative_to(corpus).with_suffix("").parts)
                statement = allowed(music_xml(path))
                if statement is not None:
                    parts = [composer, "/".join(path.relative_to(corpus).parts), *([statement] if statement else [])]
                    found.setdefault(re.sub(r"(bwv[\d.]+)-\w+$", r"\1", name), Score(name, path, "; ".join(parts)))
    if not found:
        raise UserError(f"{corpus}: has no scores; install music21 with its corpus: pip install --force-reinstall music21")
    return sorted(found.values(), key=lambda score: score.name)


def music_xml(path: Path) -> str:
    """Returns the MusicXML text of a score file, compressed or not."""
    if path.suffix != ".mxl":
        return path.read_text(encoding="utf-8", errors="replace")
    with zipfile.ZipFile(path) as file:
        name = next(name for name in file.namelist() if name.endswith("xml") and not name.startswith("META-INF"))
        return file.read(name).decode("utf-8", errors="replace")


def allowed(text: str) -> str | None:
    """Returns the rights stated in a score that may be used, empty if none are stated; None if the score may not be used."""
    if len(text) > LARGEST:
        return None
    stated = re.findall(r"<rights[^>]*>([^<]*)", text)
    stated += [words for words in re.findall(r"<credit-words[^>]*>([^<]*)", text) if RIGHTS.search(words)]
    stated = sorted({" ".join(words.split()) for words in stated if not PRINTED_PAGE.search(words)} - {""})
    return "; ".join(stated) if all(FREE.search(words) for words in stated) else None


def parse(score: Score) -> Any:
    """Returns a score parsed by music21, at sounding pitch.

    Raises:
        UserError: If music21 cannot read it.
    """
    from music21 import converter  # not a requirement of the project

    try:
        return converter.parse(score.path, forceSource=True, storePickle=False).toSoundingPitch()
    except Exception as error:  # music21 raises of all kinds
        raise UserError(f"{score.path}: music21 cannot read it: {error}") from error


def read_notes(score: Score) -> tuple[list[Note], float]:
    """Returns the sounding notes of a score, tied notes joined, and its tempo in quarters per minute.

    Raises:
        UserError: If music21 cannot read the score, or it has no notes.
    """
    from music21 import tempo

    parsed = parse(score)
    try:
        parts = list(parsed.parts) or [parsed]
        notes = [note for part in parts for note in joined(part.flatten().notes)]
        marks = [mark.getQuarterBPM() for mark in parsed.flatten().getElementsByClass(tempo.MetronomeMark)]
    except Exception as error:  # music21 raises of all kinds
        raise UserError(f"{score.path}: music21 cannot read it: {error}") from error
    if not notes:
        raise UserError(f"{score.path}: has no notes")
    mark = next((mark for mark in marks if mark), USUAL)
    return one_keyboard(notes), BEATS.get(score.name.split("-")[0], float(mark))


def joined(elements: Iterable[Any]) -> list[Note]:
    """Returns the notes and chords of a part as single notes, with tied notes joined."""
    open_at: dict[tuple[int, float], int] = {}
    notes: list[Note] = []
    for element in elements:
        if "ChordSymbol" in element.classes or "Unpitched" in element.classes or "PercussionChord" in element.classes:
            continue
        start, length = float(element.offset), float(element.quarterLength) or 0.125  # grace notes have no length
        for member in getattr(element, "notes", (element,)):
            pitch = member.pitch.midi
            before = open_at.get((pitch, round(start, 3)))
            tie = member.tie or element.tie
            if tie is not None and tie.type in ("stop", "continue") and before is not None:
                notes[before] = Note(notes[before].start, start + length - notes[before].start, pitch)
                open_at[pitch, round(start + length, 3)] = before
            else:
                notes.append(Note(start, length, pitch))
                open_at[pitch, round(start + length, 3)] = len(notes) - 1
    return notes


def one_keyboard(notes: Sequence[Note]) -> list[Note]:
    """Returns the notes within the piano's range, sorted, and shortened or dropped so that no pitch overlaps itself."""
    longest: dict[tuple[float, int], Note] = {}
    for note in notes:
        same = longest.get((note.start, note.pitch))
        if 21 <= note.pitch <= 108 and (same is None or same.length < note.length):
            longest[note.start, note.pitch] = note
    kept: list[Note] = []
    last: dict[int, int] = {}
    for note in sorted(longest.values(), key=lambda note: (note.start, note.pitch)):
        if note.pitch in last:
            before = kept[last[note.pitch]]
            kept[last[note.pitch]] = Note(before.start, min(before.length, note.start - before.start), before.pitch)
        last[note.pitch] = len(kept)
        kept.append(note)
    return kept
