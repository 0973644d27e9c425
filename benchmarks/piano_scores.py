"""Scores for the piano: which of music21's may be used, and their notes."""

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
"""The folders of music21's corpus that are used."""
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
"""Pieces that another one repeats, wholly or by more than half, in the same or in another key: left out, lest the splits share them."""
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
LARGEST = 3_000_000  # bytes of MusicXML: above are mostly whole quartets in one file, of which minutes would be used
BEATS = {"bach": 76.0}
"""Quarters a minute of a folder's scores; of others the first mark, or `USUAL` without one."""
USUAL = 96.0


@dataclass(frozen=True)
class Score:
    """A piece of the corpus: its name in files, its file, and what it is and whose."""

    name: str
    path: Path
    credit: str


@dataclass(frozen=True)
class Note:
    """A note of a score: start and length in quarters from the beginning, and its pitch as MIDI counts."""

    start: float
    length: float
    pitch: int


def scores() -> list[Score]:
    """Those that may be used, sorted by name; of versions of a piece (`bwv1-a`, `bwv1-b`) the first.

    Raises:
        UserError: music21 is not installed.
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
    """The text of a score, compressed or not."""
    if path.suffix != ".mxl":
        return path.read_text(encoding="utf-8", errors="replace")
    with zipfile.ZipFile(path) as file:
        name = next(name for name in file.namelist() if name.endswith("xml") and not name.startswith("META-INF"))
        return file.read(name).decode("utf-8", errors="replace")


def allowed(text: str) -> str | None:
    """What a score states of rights where it may be used, empty where it states nothing; None where it may not."""
    if len(text) > LARGEST:
        return None
    stated = re.findall(r"<rights[^>]*>([^<]*)", text)
    stated += [words for words in re.findall(r"<credit-words[^>]*>([^<]*)", text) if RIGHTS.search(words)]
    stated = sorted({" ".join(words.split()) for words in stated if not PRINTED_PAGE.search(words)} - {""})
    return "; ".join(stated) if all(FREE.search(words) for words in stated) else None


def parse(score: Score) -> Any:
    """A score as music21 reads it, at sounding pitch.

    Raises:
        UserError: it cannot.
    """
    from music21 import converter  # not among the project's requirements

    try:
        return converter.parse(score.path, forceSource=True, storePickle=False).toSoundingPitch()
    except Exception as error:  # music21 raises of all kinds
        raise UserError(f"{score.path}: music21 cannot read it: {error}") from error


def read_notes(score: Score) -> tuple[list[Note], float]:
    """A score's notes as they sound, tied ones as one, and its quarters a minute."""
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
    """A part's notes and chords as single notes, of which those that a tie continues make the one before longer."""
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
    """The notes sorted, with none twice at a time: of those that begin together the longest, and a key is up before it is struck again."""
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
