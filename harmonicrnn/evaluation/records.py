"""Records of an evaluation's results, as stored in `report.json`."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import ClipSetInfo
from harmonicrnn.evaluation.distance import Distance
from harmonicrnn.evaluation.likelihood import ClipLikelihood
from harmonicrnn.evaluation.published import Published

FORMAT = 1


@dataclass(frozen=True)
class Measure:
    """A column of the table."""

    name: str
    title: str
    meaning: str


@dataclass(frozen=True)
class Cell:
    """A number, its 95 % interval (None if it has none), and a `mark` to print beside it."""

    value: float
    interval: tuple[float, float] | None = None
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table: name and kind of the clips, their number, and cells by measure."""

    name: str
    clips: int
    values: dict[str, Cell]
    kind: str = "real audio"


@dataclass(frozen=True, kw_only=True)
class SubjectReport(Row):
    """A folder of audio or a model: distances by embedding, notes, provenance. config is the run's; None for a folder."""

    path: str
    fad: dict[str, Distance]
    notes: list[str]
    config: str | None
    provenance: dict[str, Any]


@dataclass(frozen=True)
class GeneratedReport:
    """A model's own clips: bits per sample of each under the model, and the number that turn to noise or silence."""

    bits_per_sample: list[float]
    with_findings: int


@dataclass(frozen=True, kw_only=True)
class ModelReport(SubjectReport):
    """A model: the step of its checkpoint, its number of parameters, its likelihood, and what it drew."""

    step: int | None
    parameters: int
    nll: ClipLikelihood
    generated: GeneratedReport


@dataclass(frozen=True)
class EmbeddingReport:
    """An embedding: its rate in Hz, checksums of its weights, and the reference set's number of embeddings."""

    name: str
    rate: int
    dimensions: int
    weights: dict[str, str]
    reference: int


@dataclass(frozen=True)
class ClassifierReport:
    """A classifier of digits: checksums of its weights, accuracy on the test split from its checkpoint and as measured here (None if
    unknown), and which clips are scored."""

    name: str
    weights: dict[str, str]
    accuracy_as_trained: float | None
    accuracy_here: float | None
    selection: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """All measurements and their settings. `untrained` holds likelihoods without training, `training` the split that SC09 scores refer
    to."""

    format: int = FORMAT
    created: str
    command: str
    reference: ClipSetInfo
    measures: list[Measure]
    subjects: list[SubjectReport]
    untrained: list[Row]
    real: list[Row]
    published: list[Published]
    notes: list[str]
    settings: dict[str, Any]
    embeddings: list[EmbeddingReport]
    classifier: ClassifierReport | None
    training: ClipSetInfo | None
    code: str
    python: str
    libraries: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values.

        Raises:
            UserError: a number is not finite; names the subject, or else the reference.
        """
        for name, part in [*((each.path, asdict(each)) for each in self.subjects), (self.reference.name, asdict(self))]:
            try:
                json.dumps(part, allow_nan=False)
            except ValueError as error:
                raise UserError(f"{name}: a measured number is not finite, so there is no report") from error
        return asdict(self)
