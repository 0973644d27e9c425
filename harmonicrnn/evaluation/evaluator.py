"""Runs an evaluation: draws clips, measures models and folders, and builds the report."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from omegaconf import OmegaConf
from torch import Tensor

from harmonicrnn.audio import Quantiser
from harmonicrnn.audio.dataset import Dataset, Split
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import ClipSetInfo, FolderClips, SplitClips
from harmonicrnn.evaluation.digit_classifier import DigitClassifier
from harmonicrnn.evaluation.digit_evaluation import MEASURES, accuracy_of, score, too_few, training_reference, why_not_published
from harmonicrnn.evaluation.distance import SCALE_CLIPS, Distance, distances_for_scale, measure_distance, reference_gaussian
from harmonicrnn.evaluation.examples import ExampleGroup, choose_prompts, folder_examples, split_examples
from harmonicrnn.evaluation.generated_clips import ModelClips, draw_clips
from harmonicrnn.evaluation.likelihood import measure_likelihood
from harmonicrnn.evaluation.published import COMPARED, REFERENCE, published_rows
from harmonicrnn.evaluation.records import (
    FORMAT,
    Cell,
    ClassifierReport,
    EmbeddingReport,
    GeneratedReport,
    Measure,
    ModelReport,
    Report,
    Row,
    SubjectReport,
)
from harmonicrnn.evaluation.report_folder import clips_folder
from harmonicrnn.evaluation.subjects import Subject
from harmonicrnn.evaluation.untrained import ProgressBar, Untrained, measure_untrained, worse_than_untrained
from harmonicrnn.generation.clip_writer import Settings
from harmonicrnn.generation.detectors import Reference
from harmonicrnn.metrics import Classified, DigitReference, Embedder, Gaussian, select_by_likelihood, shortage
from harmonicrnn.provenance import provenance
from harmonicrnn.voice import Voice

SELECTION = "of a random half of the drawn clips, those from rank 0.40 to 0.95 by likelihood; all clips of folders and of real audio"


class LabelledDataset(Dataset, Protocol):
    """A dataset of spoken digits."""

    def labels(self, split: Split) -> Tensor:
        """Returns the digit of each clip of a split, (clips,) int64."""


@dataclass(frozen=True)
class DigitScoring:
    """Inputs of the SC09 scores: a classifier, the training split as reference, and data whose test split gives the classifier's accuracy
    (None if models are not measured on SC09). Both datasets are set up for these splits."""

    classifier: DigitClassifier
    training: Dataset
    labelled: LabelledDataset | None


@dataclass(frozen=True)
class Evaluation:
    """The settings and inputs of an evaluation.

    subjects: what is measured, each with its model or its audio.
    data, split: what models are measured on; None if only folders are compared.
    training: the data that models were trained on; None if unknown.
    unigram: the data, also set up for its training split, for the likelihood under its class frequencies; None to leave that out.
    folder: the reference if it is a folder, else None.
    drawing: settings of the clips that models draw; None without models.
    detectors: returns the fault detectors for a model's classes and its run's folder, None if that is gone.
    embedders: of the FAD.
    digits: for the SC09 scores; None for none.
    extrapolate: whether FAD-infinity is measured.
    examples: number of clips on the page.
    seed: of intervals and selections.
    cache: folder for the statistics of references.
    """

    subjects: list[tuple[Subject, Voice | FolderClips]]
    data: Dataset | None
    split: Split
    training: Dataset | None
    unigram: Dataset | None
    folder: FolderClips | None
    drawing: Settings | None
    detectors: Callable[[Quantiser, Path | None], Reference]
    embedders: list[Embedder]
    digits: DigitScoring | None
    extrapolate: bool
    examples: int
    seed: int
    cache: Path

    def conversions(self) -> list[str]:
        """Returns notes on conversions of the folders' audio, one per line."""
        folders = [self.folder, *(source for _, source in self.subjects)]
        return [f"{clips.folder}: {note}" for clips in folders if isinstance(clips, FolderClips) for note in clips.notes]

    def settings(self) -> dict[str, Any]:
        """Returns all that the report depends on, as JSON values."""
        reference: dict[str, Any] = {"against": self.split if self.folder is None else str(self.folder.folder)}
        if self.folder is not None:
            reference |= {"checksum": self.folder.info.checksum, "protocol": self.folder.info.protocol}
        if self.data is not None:
            reference |= {"protocol": self.data.protocol}
            reference |= {} if self.folder is not None else {"checksum": self.data.checksum(self.split)}
        return {
            "format": FORMAT,
            "subjects": [
                {"path": str(subject.path), "checksum": source.info.checksum if isinstance(source, FolderClips) else subject.checksum}
                for subject, source in self.subjects
            ],
            "reference": reference,
            "drawing": asdict(self.drawing) if self.drawing else None,
            "seed": self.seed,
            "examples": self.examples,
            "embeddings": {embedder.name: embedder.weights for embedder in self.embedders},
            "extrapolate": self.extrapolate,
            "classifier": self.digits and self.digits.classifier.weights,
        }


@dataclass(frozen=True)
class _Compared:
    """What is measured of a model's clips and a folder's alike: their number, cells by measure, distances by embedding, notes."""

    clips: int
    values: dict[str, Cell]
    fad: dict[str, Distance]
    notes: list[str]


class Evaluator:
    """Runs an evaluation.

    Args:
        work: settings and inputs of the evaluation, with data that is set up for the split.
        out: folder for drawn clips.
        bar: shows progress of each part.
    """

    def __init__(self, work: Evaluation, out: Path, bar: ProgressBar) -> None:
        self.work, self.out, self.bar = work, out, bar
        reference = work.folder if work.data is None else SplitClips(work.data, work.split)
        assert reference is not None
        self.reference: SplitClips | FolderClips = reference
        self.references: list[tuple[Embedder, Gaussian]] = []
        self.notes: list[str] = []
        self.drawn: dict[str, ModelClips] = {}  # by the models' names
        self.untrained: list[Untrained] = []
        self.digits: DigitReference | None = None
        self.not_published: list[str] = []  # why the scores of SC09 are not set beside published ones
        # Examples for the page: clip indices in the split, and their prompts.
        self.numbers, self.prompts = choose_prompts(work.data, work.split, work.examples) if work.data else ([], torch.empty(0, 0))

    def run(self, command: str = "") -> tuple[Report, list[ExampleGroup]]:
        """Runs all measurements of the evaluation.

        Args:
            command: command line to record in the report.

        Returns:
            the report, and example clips for its page.

        Raises:
            UserError: a measurement failed; the message says which and why.
        """
        work = self.work
        for embedder in work.embedders:
            with self.bar(f"Reference, {embedder.name}", self.reference.info.clips) as advance:
                self.references.append((embedder, reference_gaussian(self.reference, embedder, work.cache, advance)))
        real, training, classifier = self._real()
        scale = self._scale()
        models = not all(isinstance(source, FolderClips) for _, source in work.subjects)
        if models and work.data is not None:
            self.untrained = measure_untrained(work.data, work.split, work.cache, training=work.unigram, seed=work.seed, bar=self.bar)
        measured: dict[int, SubjectReport] = {}
        # Folders first, so that their errors show before the long work.
        for place, (subject, source) in sorted(enumerate(work.subjects), key=lambda each: not isinstance(each[1][1], FolderClips)):
            if isinstance(source, FolderClips):
                origin = asdict(source.info) | {"treated": source.notes}
                compared = self._compared(subject, source, source)
                measured[place] = SubjectReport(
                    name=subject.name,
                    kind="folder of audio",
                    clips=compared.clips,
                    values=compared.values,
                    path=str(subject.path),
                    fad=compared.fad,
                    notes=compared.notes,
                    config=None,
                    provenance=origin,
                )
            else:
                measured[place] = self._model(clips_folder(self.out, place, subject), subject, source)
        subjects = [report for _, report in sorted(measured.items())]
        measures = self._measures(models)
        published = published_rows(work.data, work.split, {measure.name for measure in measures}, self.not_published)
        notes = [note for subject in subjects for note in subject.notes] + self.notes
        notes += [f"FAD {embedder.name}: reference: {note}" for embedder, reference in self.references if (note := shortage(reference))]
        notes += [COMPARED] if published and models else []
        notes += [REFERENCE] if published and self.digits else []
        report = Report(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=command,
            reference=self.reference.info,
            measures=measures,
            subjects=subjects,
            untrained=[
                Row(name=e.name, clips=e.clips, values={"NLL": Cell(e.bits_per_sample, e.interval)}, kind="without any training")
                for e in self.untrained
            ],
            real=scale + real,
            published=published,
            notes=notes,
            settings=work.settings(),
            embeddings=[EmbeddingReport(e.name, e.rate, e.dimensions, e.weights, int(of.size)) for e, of in self.references],
            classifier=classifier,
            training=training,
            **provenance(),
        )
        return report, self._examples()

    def _scale(self) -> list[Row]:
        """Returns rows with distances for scale."""
        halves: dict[str, Cell] = {}
        noise: dict[str, Cell] = {}
        clips, name, there = 0, self.reference.info.name, self.reference.info.clips
        total = None if there is None else 2 * min(-(-there // 2), SCALE_CLIPS) + min(there // 2, SCALE_CLIPS)
        for embedder, reference in self.references:
            title = f"FAD {embedder.name}"
            with self.bar(f"For scale: {title}", total) as advance:
                found = distances_for_scale(self.reference, embedder, reference, self.work.seed, advance)
            if found is not None:
                halves[title], noise[title], clips = Cell(found[0]), Cell(found[1]), found[2]
        if not clips:
            return []
        return [
            Row(name=f"{name}: one half against the other", clips=clips, values=halves, kind="real audio, for scale"),
            Row(name="white noise", clips=clips, values=noise, kind=f"of the levels of {name}, for scale"),
        ]

    def _real(self) -> tuple[list[Row], ClipSetInfo | None, ClassifierReport | None]:
        """Returns the parts for SC09 scores: rows of real clips, and records of the training split and the classifier."""
        work, digits = self.work, self.work.digits
        if digits is None:
            return [], None, None
        training, classifier, accuracy = SplitClips(digits.training, "train"), digits.classifier, None
        with self.bar("Training split, digits", len(training)) as advance:
            self.digits, scores = training_reference(training, classifier, work.cache, work.seed, advance)
        self.notes += [f"FID: reference: {few}"] if (few := shortage(self.digits.features)) else []
        rows = [Row(name=training.info.name, clips=len(training), values=scores)]
        sets: list[SplitClips | FolderClips] = [self.reference]
        if digits.labelled is not None and work.split != "test":  # needed for the classifier's accuracy
            sets.append(SplitClips(digits.labelled, "test"))
        for clips in sets:
            with self.bar(f"{clips.info.name}, digits", clips.info.clips) as advance:
                classified = classifier(clips, advance)
            rows.append(Row(name=clips.info.name, clips=len(classified.features), values=score(classified, self.digits, work.seed)))
            self.notes += self._fid_notes(clips.info.name, classified)
        if digits.labelled is not None:
            accuracy = accuracy_of(classified, digits.labelled.labels("test"))
            how = (work.drawing.clips, work.drawing.drawn_at, work.drawing.top_p) if work.drawing else (0,)
            self.not_published = why_not_published(classifier, accuracy, len(training), *how)
        return rows, training.info, ClassifierReport(classifier.name, classifier.weights, classifier.accuracy, accuracy, SELECTION)

    def _fid_notes(self, name: str, classified: Classified) -> list[str]:
        """Returns notes on a row's FID; the reference's note is given once elsewhere."""
        assert self.digits is not None
        return [f"{name}, FID: {note}" for note in too_few(classified, self.digits) if not note.startswith("reference")]

    def _model(self, folder: Path, subject: Subject, model: Voice) -> ModelReport:
        work, run, name = self.work, subject.run, subject.name
        assert work.data is not None
        assert run is not None
        self.drawn[name] = self._draw(folder, subject, model)
        generated = self.drawn[name].generated
        wrong = generated.with_findings
        notes = [f"{name}: {wrong} of {len(generated)} generated clips turn to noise, a whistle or silence"] if wrong else []
        with self.bar(f"{name}: likelihood", work.data.clip_count(work.split)) as advance, _named(subject.path):
            nll = measure_likelihood(model.net, work.data, work.split, work.seed, advance)
        if worse := worse_than_untrained(nll.bits_per_sample, self.untrained):
            notes.append(f"{name} is {worse}")
        config = run.config.read_text() if run.config.is_file() else None
        if config and (other := _trained_otherwise(config, work.training)):
            notes.append(f"{name} was trained with other settings of the data: {other}")
        scored: Sequence[Tensor] = ()
        if self.digits is not None:
            chosen = select_by_likelihood(-torch.tensor(generated.bits_per_sample), work.seed)
            scored = [generated.audio(number) for number in chosen.tolist()]
        compared = self._compared(subject, generated, scored)
        origin = subject.provenance()
        return ModelReport(
            name=name,
            kind="model",
            clips=compared.clips,
            values={"NLL": Cell(nll.bits_per_sample, nll.interval), **compared.values},
            path=str(subject.path),
            fad=compared.fad,
            notes=notes + compared.notes,
            step=origin["step"],
            parameters=sum(p.numel() for p in model.net.parameters()),
            config=config,
            provenance=origin,
            nll=nll,
            generated=GeneratedReport(generated.bits_per_sample, wrong),
        )

    def _draw(self, folder: Path, subject: Subject, model: Voice) -> ModelClips:
        work, rate, prompts = self.work, model.sample_rate, self.prompts
        assert work.data is not None
        assert work.drawing is not None
        assert subject.run is not None
        detectors = work.detectors(model.quantiser, subject.run.folder if subject.run.config.is_file() else None)
        with self.bar(f"{subject.name}: clips", work.drawing.clips * work.drawing.samples(rate)) as advance:
            generated = draw_clips(folder / "generated", subject.checksum, model, work.drawing, None, detectors, advance)
        if not len(prompts):
            return ModelClips(generated, None)
        settings = replace(work.drawing, seconds=(work.data.clip_samples - prompts.shape[1]) / rate, clips=len(prompts))
        with self.bar(f"{subject.name}: continuations", len(prompts) * settings.samples(rate)) as advance:
            continued = draw_clips(folder / "continued", subject.checksum, model, settings, prompts, detectors, advance)
        return ModelClips(generated, continued)

    def _compared(self, subject: Subject, clips: Iterable[Tensor], scored: Iterable[Tensor]) -> _Compared:
        """Measures what models and folders share: distances of clips, and SC09 scores of the `scored` ones."""
        work = self.work
        values: dict[str, Cell] = {}
        fad: dict[str, Distance] = {}
        notes: list[str] = []
        for embedder, reference in self.references:
            title = f"FAD {embedder.name}"
            total = len(clips) if isinstance(clips, Sized) else None
            with self.bar(f"{subject.name}: {title}", total) as advance, _named(subject.path, title):
                found = measure_distance(clips, embedder, reference, seed=work.seed, extrapolate=work.extrapolate, progress=advance)
            fad[embedder.name] = found
            values[title] = Cell(found.distance, found.interval, "; ".join(found.few))
            if found.infinity is not None:
                values[f"FAD∞ {embedder.name}"] = Cell(found.infinity.distance)
            notes += [f"{subject.name}, {title}: {note}" for note in found.notes if not note.startswith("reference")]
        if self.digits is not None:
            assert work.digits is not None
            with self.bar(f"{subject.name}: digits", None) as advance, _named(subject.path, "scores of SC09"):
                classified = work.digits.classifier(scored, advance)
                values |= score(classified, self.digits, work.seed)
            notes += self._fid_notes(subject.name, classified)
        return _Compared(next(iter(fad.values())).clips, values, fad, notes)

    def _measures(self, models: bool) -> list[Measure]:
        """Returns the columns of the table."""
        split = self.reference.info.name
        found = [Measure("NLL", "NLL, bits/sample", f"exact mean over all samples of {split}, lower is better")] if models else []
        for embedder in self.work.embedders:
            own = "; comparable only with itself" if embedder.name == "logmel" else ""
            title = f"FAD {embedder.name}"
            found.append(Measure(title, title, f"Fréchet audio distance from {split}, lower is better{own}"))
            if self.work.extrapolate:
                title = f"FAD∞ {embedder.name}"
                found.append(Measure(title, title, "the same, extrapolated to infinitely many clips"))
        return found + [Measure(title, title, meaning) for title, meaning in MEASURES.items() if self.digits is not None]

    def _examples(self) -> list[ExampleGroup]:
        work = self.work
        sources = [
            (subject.name, source if isinstance(source, FolderClips) else self.drawn[subject.name]) for subject, source in work.subjects
        ]
        if work.data is not None:
            return split_examples(work.data, work.split, self.numbers, self.prompts, sources)
        folders = [(name, source) for name, source in sources if isinstance(source, FolderClips)]
        assert work.folder is not None
        return folder_examples([(work.folder.info.name, work.folder), *folders], work.folder.rate, work.examples)


@contextmanager
def _named(path: Path, what: str = "") -> Iterator[None]:
    """Prefixes errors with the subject and the measurement."""
    try:
        yield
    except UserError as error:
        raise UserError(": ".join(filter(None, (str(path), what, str(error))))) from error


def _trained_otherwise(config: str, data: Dataset | None) -> str:
    """Returns the data settings in which a run's training differs from this data."""
    own = OmegaConf.select(OmegaConf.create(config), "data")
    if own is None or data is None:
        return ""
    settings = own.get("init_args", {})
    ours = {"class_path": type(data).__name__, "scaling": data.scaling, "clip_samples": data.clip_samples, "root": str(data.root)}
    theirs = {"class_path": str(own.class_path).split(".")[-1]} | {key: settings[key] for key in ours if key in settings}
    return ", ".join(f"{key} {theirs[key]}" for key in ours if key in theirs and str(theirs[key]) != str(ours[key]))
