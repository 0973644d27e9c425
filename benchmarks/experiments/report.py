"""Tables and plots of an experiment's results."""

import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.experiments.declare import Experiment, Run, Settings
from benchmarks.experiments.results import Points, Row, number, points, read, stale
from harmonicrnn.errors import UserError

STALE = "\\*: this run was told something else than the current settings; run it again before comparing it.\n\n"
WENT_ON = (
    "†: went on from a checkpoint; seconds are the sum over the attempts that ended by themselves, memory is the largest of theirs.\n\n"
)
OCTAVES = (0, *(4**k for k in range(16)))
"""Numbers of preceding samples in a table of positions: every second octave."""


def report(experiment: Experiment, results: Path, folder: Path, extra: Settings) -> Path:
    """Writes `README.md` and the plots into the folder and returns the path of `README.md`.

    Args:
        experiment: The experiment.
        results: CSV file of results; copied into the folder.
        folder: Folder of the report.
        extra: Overrides of all runs.

    Raises:
        UserError: If there are no results.
    """
    rows = read(results, experiment)
    if not rows:
        raise UserError(f"{results}: no results of {experiment.name} yet: run it with --run {experiment.name}")
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() != results.resolve().parent:
        shutil.copy(results, folder / results.name)
    plots = figures(experiment, rows)
    for name, figure in plots.items():
        figure.savefig(folder / f"{name}.svg")
    told = table(experiment, rows, extra) + (position_table(experiment, rows) if experiment.positions else "")
    images = "\n".join(f"![{name}]({name}.svg)" for name in plots)
    path = folder / "README.md"
    path.write_text(f"# {experiment.name}\n\n{experiment.question}\n\n{told}{images}\n\n{made_by(experiment, rows, extra)}\n")
    return path


def by_run(experiment: Experiment, rows: Sequence[Row]) -> list[tuple[Run, list[Row]]]:
    """Returns each run that has results, with its rows of all seeds."""
    return [(run, found) for run in experiment.runs if (found := [row for row in rows if row["run"] == run.name])]


def tests_of(rows: Iterable[Row]) -> list[str]:
    """Returns the names of the evaluations."""
    columns = dict.fromkeys(column for row in rows for column, value in row.items() if value)
    return [column.removesuffix(" bits") for column in columns if column.endswith(" bits")]


def spread(values: Sequence[float | None], digits: int) -> str:
    """Formats values as mean ± standard deviation, or the value if there is only one; "-" if one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    mean = f"{statistics.mean(known):,.{digits}f}"
    return f"{mean} ± {statistics.stdev(known):,.{digits}f}" if len(known) > 1 else mean


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Formats a table in Markdown."""
    lines = ["| " + " | ".join(row) + " |\n" for row in (head, *rows)]
    return "".join([lines[0], "|" + "---|" * len(head) + "\n", *lines[1:], "\n"])


def table(experiment: Experiment, rows: Sequence[Row], extra: Settings) -> str:
    """Formats the table of results, one row per run over its seeds and one of the linear predictors alone if known, with footnotes.

    Columns: labels, bits/sample of each test and of the best validation, size, speeds, memory and training time.
    """
    groups, tests, cells, marks = by_run(experiment, rows), tests_of(rows), [], {}
    labels = list(dict.fromkeys(label for run, _ in groups for label in run.labels))
    for run, group in groups:
        so = {" \\*": STALE} if any(stale(row, experiment, extra) for row in group) else {}
        so |= {" †": WENT_ON} if any(row["went_on"] == "true" for row in group) else {}
        marks |= so
        named = [str(run.labels.get(label, "")) for label in labels]
        named[-1:] = [each + "".join(so) for each in named[-1:]]
        best = [min((bits for _, bits in points(row, "validation")), default=None) for row in group]
        memory = [peak and peak / 1e6 for row in group for peak in [number(row, "peak_memory")]]
        columns = {"bits": [f"{test} bits" for test in tests], "took": ["samples_per_second", "sampled_per_second"]}
        bits, speeds = ([[number(row, column) for row in group] for column in each] for each in columns.values())
        counts = [f"{int(group[0][column]):,}" for column in ("parameters", "samples_seen")]
        took = [*speeds, memory, [number(row, "seconds") for row in group]]
        cells.append([*named, *(spread(v, 3) for v in (*bits, best)), *counts, *(spread(v, 0) for v in took), str(len(group))])
    head = [*labels, *(f"{test}, bits/sample" for test in tests), "best validation", "parameters", "samples seen"]
    head += ["samples/s trained", "samples/s drawn", "memory, MB", "seconds", "seeds"]
    if any(alone := [predictors_alone(rows, test) for test in tests]):
        row = ["linear predictors alone", *("" for _ in labels[1:]), *("-" if bits is None else f"{bits:.3f}" for bits in alone)]
        cells.append(row + ["-"] * (len(head) - len(row)))
    return markdown(head, cells) + "".join(marks[mark] for mark in sorted(marks))


def predictors_alone(rows: Iterable[Row], test: str) -> float | None:
    """Returns the bits per sample of a test under linear predictors alone; None if unknown, or if the data differ between runs."""
    found = {round(value, 4) for row in rows if (value := number(row, f"{test} predictors")) is not None}
    return found.pop() if len(found) == 1 else None


def position_table(experiment: Experiment, rows: Sequence[Row]) -> str:
    """Formats the table of bits per sample by the number of preceding samples, for each run and test, averaged over seeds."""
    curves = {
        f"{run.name}, {test}": dict(mean_curve(group, f"{test} positions"))
        for run, group in by_run(experiment, rows)
        for test in tests_of(rows)
    }
    starts = [start for start in OCTAVES if all(start in curve for curve in curves.values())]
    return markdown(["samples before, from", *curves], [[f"{start:,}", *(f"{c[start]:.3f}" for c in curves.values())] for start in starts])


def mean_curve(rows: Iterable[Row], column: str) -> Points:
    """Returns the mean of several curves at each of their places, sorted by place."""
    values: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        for place, value in points(row, column):
            values[place].append(value)
    return [(place, statistics.mean(each)) for place, each in sorted(values.items())]


def made_by(experiment: Experiment, rows: Sequence[Row], extra: Settings) -> str:
    """Formats how the results were made: command, seeds, training time, machines, dates and commits."""
    machines = sorted({f"{row['processor']}, {row['threads']} threads, {row['device']}" for row in rows})
    commits, dates = sorted({row["commit"] for row in rows}), sorted(row["date"][:10] for row in rows)
    counts = sorted({len(group) for _, group in by_run(experiment, rows)})
    seeds = f"{' or '.join(map(str, counts))} seed{'s' if counts[-1] > 1 else ''} per run"
    data = f" --data {_shown(Path(str(extra['data.root'])))}" if "data.root" in extra else ""
    took = sum(float(row["seconds"]) for row in rows) / 60
    return (
        f"Made by `python -m benchmarks.experiments --run {experiment.name}{data}`, {seeds}, in {took:.0f} minutes of training on "
        f"{'; '.join(machines)}, {dates[0]} to {dates[-1]}, commits {', '.join(commits)}."
    )


def _shown(folder: Path) -> Path:
    """Returns a folder relative to the working directory, or its last name where it is elsewhere: reports hold no path of one machine."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else Path(folder.name)


def figures(experiment: Experiment, rows: Sequence[Row]) -> dict[str, Figure]:
    """Returns the plots by name: validation bits/sample against samples seen, a line for each run (mean of its seeds).

    If the experiment asks for them, also bits/sample of each test against the label `curve`, a line for each combination of the other
    labels, and against the number of preceding samples.
    """
    groups, lines = by_run(experiment, rows), {}
    for run, group in groups:
        batch = int(group[0]["samples_seen"]) / int(group[0]["steps"])
        lines[run.name] = [(step * batch, bits) for step, bits in mean_curve(group, "validation")]
    made = {"learning": line_figure(lines, "samples seen", "validation, bits/sample")}
    for test in tests_of(rows):
        bits = f"{test}, bits/sample"
        if label := experiment.curve:
            curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for run, group in groups:
                if values := [value for row in group if (value := number(row, f"{test} bits")) is not None]:
                    others = ", ".join(str(value) for key, value in run.labels.items() if key != label)
                    curves[others].append((float(run.labels[label]), statistics.mean(values)))
            made[f"nll_{test}"] = line_figure({name: sorted(each) for name, each in curves.items()}, label, bits, "log")
        if experiment.positions:
            lines = {run.name: mean_curve(group, f"{test} positions") for run, group in groups}
            made[f"positions_{test}"] = line_figure(lines, "samples before", bits, "symlog")
    return made


def line_figure(lines: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, scale: str = "linear") -> Figure:
    """Returns a plot with a line for each name that has points; its height grows with the legend beside it."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y, xscale=scale)
    for name, places in lines.items():
        if places:
            axes.plot(*zip(*places, strict=True), marker=".", label=name)
    axes.grid(alpha=0.3)
    names = axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5)).get_texts()
    figure.set_figheight(max(4.0, 0.17 * len(names)))
    return figure
