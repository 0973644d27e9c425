"""What an evaluation reports, as `report.json` holds it."""

from dataclasses import asdict, dataclass
from typing import Any

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
    """A number with its 95 % interval, None where it has none; `mark` is what must stand beside it."""

    value: float
    interval: tuple[float, float] | None = None
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Clips: a name, what they are, their number, and cells by the measures' names."""

    name: str
    clips: int
    values: dict[str, Cell]
    kind: str = "real audio"


@dataclass(frozen=True, kw_only=True)
class SubjectReport(Row):
    """A folder of audio, or a model: distances by embedding, notes, and where it comes from. config is the run's; None of a folder."""

    path: str
    fad: dict[str, Distance]
    notes: list[str]
    config: str | None
    provenance: dict[str, Any]


@dataclass(frozen=True)
class GeneratedReport:
    """Bits per sample of each clip that a model drew, under itself, and how many of them turn to noise or silence."""

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
    """A classifier of digits: checksums of its weights, its accuracy on the test split as its checkpoint says and as measured here (None
    where it was not), and which clips are scored."""

    name: str
    weights: dict[str, str]
    accuracy_as_trained: float | None
    accuracy_here: float | None
    selection: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was measured, and what it depends on. `untrained` has likelihoods that need no training, `training` is the split that the
    scores of SC09 refer to."""

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
        """As JSON has it."""
        return asdict(self)
