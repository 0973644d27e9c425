"""What a listener gets of an experiment's models: clips of each finished run, compared with excerpts of recordings.

    python -m benchmarks.experiments.listening FOLDER [--recordings data/music] [--only [a,b]] [--seconds 5] [--clips 8]

FOLDER holds an experiment's `results.csv` and `runs/`. The best checkpoint of each finished run draws clips, all at once, at temperature 1
and from all classes, each after a second of a test recording. The clips together are compared with evenly
spaced excerpts of the test split of the same length, by the measures of `benchmarks.free_runs` and the Fréchet distance of the log-mel
embedding. As many other excerpts are compared in the same way, for scale, in rows that say how many. All rows are kept in
`FOLDER/listening.csv`, which is written after each run; a run that is measured again replaces its row.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jsonargparse.typing import PositiveFloat, PositiveInt
from torch import Tensor

from benchmarks.experiments.report import markdown
from benchmarks.experiments.results import Row, cell, number, write
from benchmarks.free_runs import BITS, beginning, bits_of, continued, excerpts, failures, measured, usual_of
from benchmarks.timing import benchmark
from harmonicrnn import Voice
from harmonicrnn.audio.folders import find_recordings
from harmonicrnn.audio.writing import writing
from harmonicrnn.errors import UserError
from harmonicrnn.metrics import LogMel, fit_gaussian, frechet_distance
from harmonicrnn.runs import run_at
from lightning_modules import load_voice

Measured = dict[str, float | None]
MEASURES = {
    "level": ("level, dB", "+.1f"),
    "flatness": ("flatness, dB", "+.1f"),
    "spectrum": ("octave, dB", "+.1f"),
    "onsets": ("onsets/s", ".2f"),
    "excerpts_onsets": ("onsets/s of the excerpts", ".2f"),
    "bits": ("own bits", "+.2f"),
    "pitches": ("pitches", ".2f"),
    "whistle": ("whistle, s", ".2f"),
    "fad": ("FAD", ".1f"),
}
"""Heading and format of each measure. Level, flatness, the octave that differs most, and bits per sample under the model are differences
from the excerpts; pitches are the summed differences of the shares of pitch classes, 0 to 2; the whistle is the longest."""


def listening(
    experiment: Path,
    recordings: Path = Path("data/music"),
    only: list[str] | None = None,
    seconds: PositiveFloat = 5,
    clips: PositiveInt = 8,
) -> None:
    """Generates clips with the finished runs of an experiment, measures them and prints a table of all runs measured so far.

    Args:
        experiment: Output folder of the experiment.
        recordings: Folder with `test/`, as made by `benchmarks.recordings`.
        only: Names of the runs; null for all.
        seconds: Length of each clip.
        clips: Number of clips, at least two.
    """
    if not (rows := rows_of(experiment / "results.csv")):
        raise UserError(f"{experiment / 'results.csv'}: there are no results")
    if clips < 2:
        raise UserError(f"--clips must be at least 2, got {clips}")
    finished = [(row["run"], row["seed"]) for row in rows]
    if unknown := set(only or ()) - {name for name, _ in finished}:
        raise UserError(f"--only: no finished run {', '.join(sorted(unknown))} in {experiment}")
    paths = find_recordings(recordings / "test")
    if not paths:
        raise UserError(f"{recordings / 'test'}: there are no recordings to compare with")
    path, measured = experiment / "listening.csv", 0
    for name, seed in finished:
        if only is not None and name not in only:
            continue
        try:
            voice = load_voice(run_at(experiment / "runs" / f"{name}_seed{seed}/version_0").checkpoint)
            scale, found = of_run(voice, paths, seconds, clips)
        except UserError as error:
            print(f"{name}_seed{seed}: left out: {error}", flush=True)
            continue
        print(f"{name}_seed{seed}", flush=True)
        measured += 1
        kept = {(row["run"], row["seed"]): row for row in rows_of(path)}
        for labels, measures in (((f"other excerpts, {clips} of {seconds:g} s", ""), scale), ((name, seed), found)):
            values = {"clips": clips, "seconds": seconds, **measures}
            kept[labels] = {"run": labels[0], "seed": labels[1]} | {column: cell(value) for column, value in values.items()}
        with writing(path):
            write(path, kept.values())
    if not measured:
        raise UserError(f"{experiment}: no run was measured")
    print("\n" + table(rows_of(path)), end="")


def rows_of(path: Path) -> list[Row]:
    """Returns the rows of a CSV file; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def of_run(voice: Voice, paths: Sequence[Path], seconds: float, clips: int) -> tuple[Measured, Measured]:
    """Returns the measures of other excerpts of the recordings and of a model's clips, both against excerpts.

    Raises:
        UserError: If the recordings are too short.
    """
    rate, heard = voice.sample_rate, [voice.classes(path) for path in paths]
    parts = excerpts(heard, round(seconds * rate), 2 * clips)
    if len(parts) < 2 * clips:
        raise UserError(f"the test split holds {len(parts)} excerpts of {seconds:g} s, {2 * clips} are needed: fewer --clips, or shorter")
    real, other = parts[::2], parts[1::2]
    prompts = torch.stack([beginning(voice, heard, rate, seed) for seed in range(clips)])
    made, bits = continued(voice, prompts, clips, real.shape[1], 1.0, 1.0)
    sounds = {name: voice.quantiser.decode_centre(each) for name, each in (("real", real), ("other", other), ("made", made))}
    own = bits_of(voice, real)
    scale = compared(sounds["other"], [0.0] * len(other), sounds["real"], own, rate)
    return scale | {"bits": None}, compared(sounds["made"], bits, sounds["real"], own, rate)


def compared(clips: Tensor, bits: Sequence[float], real: Tensor, own: Sequence[float], rate: int) -> Measured:
    """Returns the measures (see `MEASURES`) of clips (N, T) against excerpts (M, T), given the bits per sample of each."""
    sets = ((clips, bits), (real, own))
    both = [usual_of([measured(x, rate, b) for x, b in zip(sounds.numpy(), of_each, strict=True)]) for sounds, of_each in sets]
    found, _ = failures(*both, BITS)
    embedder = LogMel(rate)
    distance = frechet_distance(*(fit_gaussian(torch.cat(embedder(list(sounds.float())))) for sounds, _ in sets))
    pitches = float(np.abs(both[0].pitches - both[1].pitches).sum())
    return {**found, "onsets": both[0].onsets, "excerpts_onsets": both[1].onsets, "pitches": pitches, "fad": distance}


def table(rows: Iterable[Row]) -> str:
    """Formats the measures as a Markdown table."""
    head = ["run", "seed", "clips", *(heading for heading, _ in MEASURES.values())]
    cells = []
    for row in rows:
        values = [(number(row, column), form) for column, (_, form) in MEASURES.items()]
        shown = ["-" if value is None else format(value, form) for value, form in values]
        cells.append([row["run"], row["seed"], f"{row['clips']} of {row['seconds']} s", *shown])
    return markdown(head, cells)


if __name__ == "__main__":
    raise SystemExit(benchmark(listening))
