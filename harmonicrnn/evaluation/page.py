"""The report as one HTML page that holds all it shows, and asks nothing of any server."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor

from harmonicrnn.audio.writing import writing
from harmonicrnn.evaluation.figures import histogram_plot, mel_image, position_plot, wav
from harmonicrnn.files import replacing

SHOWN_SECONDS = 30.0
"""Of each clip on the page, so that it stays one that a browser opens."""

MADE_WITH = ("command", "settings", "embeddings", "classifier", "training", "code", "python", "libraries")


@dataclass(frozen=True)
class Heard:
    """A clip to listen to: title, samples (T,) in [-1, 1], rate in Hz, and where in seconds a prompt ends, None where there is none."""

    title: str
    samples: Tensor
    rate: int
    prompt_seconds: float | None = None

    def shown(self) -> dict[str, Any]:
        """What the page has of it."""
        samples = self.samples[: round(SHOWN_SECONDS * self.rate)]
        cut = "" if len(samples) == len(self.samples) else f", the first {SHOWN_SECONDS:g} s"
        return {
            "title": self.title + cut,
            "mel": mel_image(samples, self.rate, self.prompt_seconds),
            "audio": wav(samples, self.rate),
        }


@dataclass(frozen=True)
class Example:
    """Clips side by side."""

    title: str
    clips: Sequence[Heard]


def write_page(path: Path, report: dict[str, Any], examples: Sequence[Example]) -> None:
    """Writes the page of a report (as in its JSON) with clips to hear; raises UserError where it cannot be written."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2)
    made_with = {key: report[key] for key in MADE_WITH if key in report}
    models = [subject for subject in report["subjects"] if "nll" in subject]
    page = environment.get_template("page.html").render(
        report=report,
        columns=report["measures"],
        positions=position_plot([(subject["name"], subject["nll"]["by_position"]) for subject in models]),
        histograms=histogram_plot([(subject["name"], subject["histogram"]) for subject in models]),
        models=models,
        made_with=made_with,
        reasons=_reasons(report["published"]),
        examples=[{"title": example.title, "clips": [clip.shown() for clip in example.clips]} for example in examples],
    )
    with writing(path), replacing(path) as file:
        file.write(page.encode())


def _reasons(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Why published rows cannot be compared, and the measures that each reason is of."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for name, why in row["reasons"].items():
            names = found.setdefault("; ".join(why), [])
            if name not in names:
                names.append(name)
    found.pop("", None)
    return found


def number(value: float) -> str:
    """To four significant digits, three decimals at most where it is above 1."""
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"
