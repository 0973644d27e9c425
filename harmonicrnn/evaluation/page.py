"""Writes the report as one self-contained HTML page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harmonicrnn.audio.writing import writing
from harmonicrnn.evaluation.examples import AudioExample, ExampleGroup
from harmonicrnn.evaluation.figures import histogram_figure, mel_figure, png, position_figure, svg, wav
from harmonicrnn.evaluation.published import Published
from harmonicrnn.evaluation.records import ModelReport, Report
from harmonicrnn.files import replacing

SHOWN_SECONDS = 30.0
"""Length shown of each clip, which limits the size of the page."""

MADE_WITH = ("command", "settings", "embeddings", "classifier", "training", "code", "python", "libraries")


def write_page(path: Path, report: Report, examples: Sequence[ExampleGroup]) -> None:
    """Writes the page of a report with example clips; raises UserError if it cannot be written."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2)
    content = report.to_json()
    models = [subject for subject in report.subjects if isinstance(subject, ModelReport)]
    page = environment.get_template("page.html").render(
        report=report,
        columns=report.measures,
        positions=svg(position_figure([(model.name, model.nll.by_position) for model in models])),
        histograms=svg(histogram_figure([(model.name, model.nll.per_clip, model.generated.bits_per_sample) for model in models])),
        models=models,
        reference=content["reference"],
        made_with={key: content[key] for key in MADE_WITH},
        reasons=_reasons(report.published),
        examples=[{"title": example.title, "clips": [_shown(clip) for clip in example.clips]} for example in examples],
    )
    with writing(path), replacing(path) as file:
        file.write(page.encode())


def _shown(clip: AudioExample) -> dict[str, Any]:
    """Returns a clip's values for the page template."""
    samples = clip.samples[: round(SHOWN_SECONDS * clip.rate)]
    cut = "" if len(samples) == len(clip.samples) else f", the first {SHOWN_SECONDS:g} s"
    return {"title": clip.title + cut, "mel": png(mel_figure(samples, clip.rate, clip.prompt_seconds)), "audio": wav(samples, clip.rate)}


def _reasons(rows: Sequence[Published]) -> dict[str, list[str]]:
    """Returns the reasons why published rows are not comparable, with the measures each concerns."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for name, why in row.reasons.items():
            names = found.setdefault("; ".join(why), [])
            if name not in names:
                names.append(name)
    found.pop("", None)
    return found


def number(value: float) -> str:
    """Formats a number to four significant digits, with at most three decimals above 1."""
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"
