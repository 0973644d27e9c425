"""Tables and plots of an experiment's results."""

import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.experiments.declare import Experiment, Settings
from benchmarks.experiments.results import Points, Result, read
from harmonicrnn.errors import UserError

MARKS = {"\\*": "stale", "†": "went_on"}
MEANINGS = {
    "stale": "told something else than its run is told now, so run it again before it is compared",
    "went_on": "went on from a checkpoint; seconds are the sum over the attempts that ended by themselves, memory is the largest of theirs",
}
"""Of rows of the table, by what their results hold."""


def report(experiment: Experiment, results: Path, folder: Path, extra: Settings) -> Path:
    """Writes `README.md` with the table, and the plots, into the folder; returns the file. `extra` is what was set over all runs.

    Raises:
        UserError: there are no results.
    """
    found = read(results, experiment, extra)
    if not found:
        raise UserError(f"{results}: no results of {experiment.name} yet: run it with --run {experiment.name}")
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() != results.resolve().parent:
        shutil.copy(results, folder / results.name)
    plots = {"learning": learning_figure(found)}
    if experiment.curve:
        plots |= {f"nll_{test}": curve_figure(found, experiment.curve, test) for test in tests_of(found)}
    if experiment.positions:
        plots |= {f"positions_{test}": positions_figure(found, test) for test in tests_of(found)}
    for name, figure in plots.items():
        figure.savefig(folder / f"{name}.svg")
    path = folder / "README.md"
    images = "\n".join(f"![{name}]({name}.svg)" for name in plots)
    path.write_text(
        f"# {experiment.name}\n\n{experiment.question}\n\n{table(found)}\n\n{marks(found)}"
        f"{position_table(found) if experiment.positions else ''}{images}\n\n{made_by(experiment, found, extra)}\n"
    )
    return path


def by_run(results: Iterable[Result]) -> list[list[Result]]:
    """The results of each run, of all its seeds; given sorted by run."""
    return [list(group) for _, group in groupby(results, key=lambda result: result.run)]


def tests_of(results: Iterable[Result]) -> list[str]:
    """Names of the evaluations, in their first order."""
    return list(dict.fromkeys(test for result in results for test in result.tests))


def spread(values: Sequence[float | None], digits: int) -> str:
    """Mean ± standard deviation of several values, one value alone, "-" where one is missing."""
    if any(value is None for value in values):
        return "-"
    known = [value for value in values if value is not None]
    mean = f"{statistics.mean(known):,.{digits}f}"
    return f"{mean} ± {statistics.stdev(known):,.{digits}f}" if len(known) > 1 else mean


def table(results: Sequence[Result]) -> str:
    """A row a run in Markdown: labels, bits/sample of each test and of the best validation, and what it took, over its seeds."""
    labels = list(dict.fromkeys(label for result in results for label in result.labels))
    tests = tests_of(results)
    head = [*labels, *(f"{test}, bits/sample" for test in tests), "best validation", "parameters", "samples seen", "samples/s trained"]
    rows = [[*head, "samples/s drawn", "memory, MB", "seconds", "seeds"]]
    for group in by_run(results):
        first = group[0]
        bits = [spread([r.bits(test) for r in group], 3) for test in tests]
        memory = spread([r.peak_memory and r.peak_memory / 1e6 for r in group], 0)
        speeds = [spread([getattr(r, key) for r in group], 0) for key in ("samples_per_second", "sampled_per_second")]
        counts = [f"{first.parameters:,}", f"{first.samples_seen:,}"]
        bits.append(spread([r.best for r in group], 3))
        cells = [str(first.labels.get(label, "")) for label in labels]
        if cells:
            cells[-1] += "".join(f" {mark}" for mark, is_so in MARKS.items() if any(getattr(r, is_so) for r in group))
        rows.append([*cells, *bits, *counts, *speeds, memory, spread([r.seconds for r in group], 0), str(len(group))])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def position_table(results: Sequence[Result]) -> str:
    """Bits per sample against the samples before, of each test and run, means of the seeds: every second octave."""
    rows: dict[int, list[str]] = defaultdict(list)
    heads = []
    for group in by_run(results):
        for test in tests_of(group):
            heads.append(f"{group[0].run}, {test}")
            for start, bits in mean_positions(group, test):
                if start in (0, *(4**k for k in range(16))):
                    rows[start].append(f"{bits:.3f}")
    lines = ["| samples before, from | " + " | ".join(heads) + " |", "|" + "---|" * (len(heads) + 1)]
    lines += [f"| {start:,} | " + " | ".join(cells) + " |" for start, cells in sorted(rows.items()) if len(cells) == len(heads)]
    return "\n".join(lines) + "\n\n"


def mean_curve(curves: Iterable[Points]) -> Points:
    """The mean of several curves at each of their places, sorted."""
    values: dict[int, list[float]] = defaultdict(list)
    for curve in curves:
        for place, value in curve:
            values[place].append(value)
    return [(place, statistics.mean(each)) for place, each in sorted(values.items())]


def mean_positions(group: Sequence[Result], test: str) -> Points:
    """The curve of a test over the samples before, the mean of a run's seeds."""
    return mean_curve(result.tests.get(test, {}).get("positions", ()) for result in group)


def marks(results: Sequence[Result]) -> str:
    """What the marks in the table mean, of those that it has."""
    told = [f"{mark}: {MEANINGS[is_so]}.\n\n" for mark, is_so in MARKS.items() if any(getattr(result, is_so) for result in results)]
    return "".join(told)


def made_by(experiment: Experiment, results: Sequence[Result], extra: Settings) -> str:
    """The command, and on which machines, when and by which commits."""
    machines = {f"{r.processor}, {r.threads} threads, {r.device}" for r in results}
    commits, dates = sorted({r.commit for r in results}), sorted(r.date[:10] for r in results)
    root = extra.get("data.root")
    seeds = max(len(group) for group in by_run(results))
    command = f"`python -m benchmarks.experiments --run {experiment.name} --seeds {seeds}" + (f" --data {root}`" if root else "`")
    took = sum(r.seconds for r in results) / 60
    where, when = "; ".join(sorted(machines)), f"{dates[0]} to {dates[-1]}"
    return f"Made by {command} in {took:.0f} minutes of training on {where}, {when}, commits {', '.join(commits)}."


def learning_figure(results: Sequence[Result]) -> Figure:
    """Validation likelihood over samples seen, a line a run, the mean of its seeds."""
    lines = {}
    for group in by_run(results):
        batch = group[0].samples_seen / group[0].steps
        lines[group[0].run] = [(step * batch, bits) for step, bits in mean_curve(result.validation for result in group)]
    return line_figure(lines, "samples seen", "validation, bits/sample")


def positions_figure(results: Sequence[Result], test: str) -> Figure:
    """The likelihood of one test over the samples before, a line a run."""
    lines = {group[0].run: mean_positions(group, test) for group in by_run(results)}
    return line_figure(lines, "samples before", f"{test}, bits/sample", "symlog")


def curve_figure(results: Sequence[Result], label: str, test: str) -> Figure:
    """The likelihood of one test over a label's values, a line for each combination of the other labels."""
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for group in by_run(results):
        if test in group[0].tests:
            others = ", ".join(str(value) for key, value in group[0].labels.items() if key != label)
            lines[others].append((float(group[0].labels[label]), statistics.mean(r.tests[test]["bits"] for r in group)))
    return line_figure({name: sorted(points) for name, points in lines.items()}, label, f"{test}, bits/sample", "log")


def line_figure(lines: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, scale: str = "linear") -> Figure:
    """A line for each name that has points; the names stand beside the plot, which becomes as high as they take."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y, xscale=scale)
    for name, points in lines.items():
        if points:
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
    axes.grid(alpha=0.3)
    names = axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5)).get_texts()
    figure.set_figheight(max(4.0, 0.17 * len(names)))
    return figure
