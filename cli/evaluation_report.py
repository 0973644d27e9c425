"""The work of an evaluation: clips are drawn, everything is measured, and a report is made of it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from cli.detector_reference import usual_sound
from cli.evaluation_inputs import FORMAT, Work
from datamodules import SC09, AudioDataModule
from harmonicrnn import Voice
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation import FolderClips, SplitClips, measure_distance, measure_likelihood, reference_gaussian
from harmonicrnn.evaluation.digit_evaluation import MEASURES, accuracy_of, classify, score, too_few, training_reference, why_not_published
from harmonicrnn.evaluation.likelihood import histogram
from harmonicrnn.evaluation.page import Example, Heard
from harmonicrnn.evaluation.published import COMPARED, REFERENCE, published_rows
from harmonicrnn.evaluation.report_folder import SHARDS, Drawn, chosen_examples, clips_folder, draw_clips
from harmonicrnn.evaluation.subjects import Subject
from harmonicrnn.generation.detectors import Reference
from harmonicrnn.metrics import Classified, DigitReference, Gaussian, select_by_likelihood, shortage
from harmonicrnn.metrics.statistics_cache import default_cache
from harmonicrnn.provenance import provenance

SELECTION = "of a random half of the drawn clips, those from rank 0.40 to 0.95 by likelihood; all clips of folders and of real audio"
Report = dict[str, Any]
Advance = Callable[[int], None]


def measure(work: Work, out: Path, console: Console) -> tuple[Report, list[Example]]:
    """Everything that is asked for, with a bar for each part of the work.

    Returns:
        the report as JSON has it, and the clips for the page.

    Raises:
        UserError: what failed, and why.
    """
    with Progress(
        TextColumn("{task.description}", markup=False),  # names of the user's files
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bars:
        return _Measuring(work, out, bars).report()


class _Measuring:
    def __init__(self, work: Work, out: Path, bars: Progress) -> None:
        self.work, self.out, self.bars = work, out, bars
        self.cache = default_cache() if work.config.cache is None else work.config.cache
        self.reference = work.reference(out / SHARDS)
        self.digits: DigitReference | None = None
        self.not_published: list[str] = []  # why the scores of SC09 are not set beside published ones
        self.accuracy: float | None = None
        self.training: Report | None = None
        self.notes: list[str] = []
        self.drawn: dict[int, tuple[Drawn, Drawn | None]] = {}  # of the models, by their place: generated and continued clips
        # To listen to: the numbers of clips of the split, and their beginnings.
        self.numbers, self.prompts = chosen_examples(work.data, work.split, work.config.examples) if work.data else ([], None)

    def report(self) -> tuple[Report, list[Example]]:
        work = self.work
        references, real = self._references(), self._real()
        subjects: list[Report] = [{} for _ in work.subjects]
        # Folders first: what is wrong with them is known before the long work.
        for i in sorted(range(len(subjects)), key=lambda i: work.voices[i] is not None):
            subjects[i] = self._subject(i, references)
        models = [subject for subject in subjects if "nll" in subject]
        self._histograms(models)
        measures = self._measures(bool(models))
        published = published_rows(work.data, work.split, {measure["name"] for measure in measures}, self.not_published)
        notes = [note for subject in subjects for note in subject["notes"]] + self.notes
        notes += [
            f"FAD {embedder.name}: reference: {note}"
            for embedder, reference in zip(work.embedders, references, strict=True)
            if (note := shortage(reference))
        ]
        notes += [COMPARED] if published and models else []
        notes += [REFERENCE] if published and self.digits else []
        report = {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "reference": self.reference.about,
            "measures": measures,
            "subjects": subjects,
            "real": real,
            "published": published,
            "notes": notes,
            "settings": work.settings() | {"seed": work.config.seed, "examples": work.config.examples},
            "embeddings": [
                {"name": e.name, "rate": e.rate, "dimensions": e.dimensions, "weights": e.weights, "reference": int(of.size)}
                for e, of in zip(work.embedders, references, strict=True)
            ],
            "classifier": self._about_classifier(),
            "training": self.training,  # that the scores of SC09 refer to
            **provenance(),
        }
        return report, self._examples()

    def _references(self) -> list[Gaussian]:
        found = []
        for embedder in self.work.embedders:
            clips = self.reference
            total = len(clips) if isinstance(clips, SplitClips) else None
            with self._bar(f"Reference, {embedder.name}", total) as advance:
                found.append(reference_gaussian(clips, embedder, self.cache, advance))
        return found

    def _real(self) -> list[Report]:
        """The rows of the training split and of the split compared with, which only the scores of SC09 need."""
        work, classifier = self.work, self.work.classifier
        if classifier is None:
            return []
        assert isinstance(work.training, SC09)
        training, seed = SplitClips(work.training, "train"), work.config.seed
        with self._bar("Training split, digits", len(training)) as advance:
            self.digits, scores = training_reference(training, classifier, self.cache, seed, advance)
        self.training = training.about
        if few := shortage(self.digits.features):
            self.notes.append(f"FID: reference: {few}")
        rows = [{"name": training.about["name"], "clips": len(training), "values": _titled(scores, [few] if few else [])}]
        with self._bar("Reference, digits", None) as advance:
            classified = classify(self.reference, classifier, advance)
        rows.append(self._real_row(self.reference.about["name"], classified))
        if isinstance(work.data, SC09):
            if work.split != "test":  # the classifier is known by its accuracy there, whatever is compared with
                work.data.setup("test")
                clips = SplitClips(work.data, "test")
                with self._bar("Test split, digits", len(clips)) as advance:
                    classified = classify(clips, classifier, advance)
                rows.append(self._real_row(clips.about["name"], classified))
            self.accuracy = accuracy_of(classified, work.data.labels("test"))
            drawing = work.config.clips, work.config.temperature, work.config.top_p
            self.not_published = why_not_published(classifier, self.accuracy, len(training), *drawing)
        return rows

    def _real_row(self, name: str, classified: Classified) -> Report:
        """The scores of real clips, beside those of the training split; what is wrong with them is noted."""
        assert self.digits is not None
        few = too_few(classified, self.digits)
        self.notes += _of_fid(name, few)
        return {
            "name": name,
            "clips": len(classified.features),
            "values": _titled(score(classified, self.digits, self.work.config.seed), few),
        }

    def _about_classifier(self) -> Report | None:
        classifier = self.work.classifier
        if classifier is None:
            return None
        own = {"name": classifier.name, "weights": classifier.weights, "accuracy_as_trained": classifier.accuracy}
        return own | {"accuracy_here": self.accuracy, "selection": SELECTION}

    def _digits(self, subject: Subject, clips: Iterable[Tensor]) -> tuple[Report, list[str]]:
        """Scores of SC09, and notes of them."""
        assert self.digits is not None
        assert self.work.classifier is not None
        with self._bar(f"{subject.name}: digits", None) as advance:
            try:
                classified = classify(clips, self.work.classifier, advance)
                scores = score(classified, self.digits, self.work.config.seed)
            except UserError as error:
                raise UserError(f"{subject.path}: scores of SC09: {error}") from error
        few = too_few(classified, self.digits)
        return _titled(scores, few), _of_fid(subject.name, few)

    def _subject(self, place: int, references: list[Gaussian]) -> Report:
        subject, voice, folder = self.work.subjects[place], self.work.voices[place], self.work.folders[place]
        row: Report = {"name": subject.name, "path": str(subject.path), "values": {}, "notes": []}
        if voice is None:
            assert folder is not None
            row |= {"kind": "folder of audio", "config": None, "provenance": folder.about | {"treated": folder.notes}}
            row["fad"] = self._distances(subject, folder, None, references)
            scored: Iterable[Tensor] = folder
        else:
            row |= self._model(place, subject, voice)
            row["values"]["NLL"] = _value(row["nll"]["bits_per_sample"], row["nll"]["interval"])
            generated, _ = self.drawn[place]
            row["fad"] = self._distances(subject, generated, len(generated), references)
            scored = self._selected(generated) if self.digits else ()
        for name, fad in row["fad"].items():
            row["values"][f"FAD {name}"] = _value(fad["distance"], fad["interval"], "; ".join(fad["few"]))
            if "infinity" in fad:
                row["values"][f"FAD∞ {name}"] = _value(fad["infinity"]["distance"])
            row["notes"] += [f"{subject.name}, FAD {name}: {note}" for note in fad["notes"] if not note.startswith("reference")]
        if self.digits is not None:
            values, notes = self._digits(subject, scored)
            row["values"] |= values
            row["notes"] += notes
        row["clips"] = next(iter(row["fad"].values()))["clips"]
        return row

    def _model(self, place: int, subject: Subject, voice: Voice) -> Report:
        work = self.work
        assert work.data is not None
        assert subject.run is not None
        self._draw(place, subject, voice)
        generated, _ = self.drawn[place]
        notes, wrong = [], sum(bool(row["findings"]) for row in generated.rows)
        if wrong:
            notes.append(f"{subject.name}: {wrong} of {len(generated)} generated clips turn to noise or silence")
        with self._bar(f"{subject.name}: likelihood", work.data.clip_count(work.split)) as advance:
            likelihood = measure_likelihood(voice.net, work.data, work.split, advance)
        if not np.isfinite(likelihood.nats).all():
            raise UserError(f"{subject.path}: its likelihoods are not finite; its weights are of a training that went wrong")
        provenance = subject.provenance()
        config = subject.run.config.read_text() if subject.run.config.is_file() else None
        if config and (other := _trained_otherwise(config, work.training)):
            notes.append(f"{subject.name} was trained with other settings of the data: {other}")
        return {
            "kind": "model",
            "step": provenance["step"],
            "parameters": sum(p.numel() for p in voice.net.parameters()),
            "config": config,
            "provenance": provenance,
            "notes": notes,
            "nll": likelihood.record(work.config.seed),
            "generated": {
                "bits_per_sample": [row["bits_per_sample"] for row in generated.rows],
                "with_findings": wrong,
            },
        }

    def _draw(self, place: int, subject: Subject, voice: Voice) -> None:
        work = self.work
        assert work.data is not None
        assert work.drawing is not None
        assert subject.run is not None
        kept = subject.run.folder / "usual_sound.json" if subject.run.config.is_file() else None
        usual: Reference = usual_sound(work.training, voice.quantiser, kept)
        folder = clips_folder(self.out, place, subject)
        with self._bar(f"{subject.name}: clips", work.drawing.clips * work.drawing.samples(voice.sample_rate)) as advance:
            generated = draw_clips(folder / "generated", subject, voice, work.drawing, None, usual, advance)
        continued = None
        if self.prompts is not None and len(self.prompts):
            rest = (work.data.clip_samples - self.prompts.shape[1]) / voice.sample_rate
            settings = replace(work.drawing, seconds=rest, clips=len(self.prompts))
            with self._bar(f"{subject.name}: continuations", len(self.prompts) * settings.samples(voice.sample_rate)) as advance:
                continued = draw_clips(folder / "continued", subject, voice, settings, self.prompts, usual, advance)
        self.drawn[place] = generated, continued

    def _selected(self, generated: Drawn) -> list[Tensor]:
        """The clips that are scored, by their likelihood."""
        chosen = select_by_likelihood(torch.tensor([-row["bits_per_sample"] for row in generated.rows]), self.work.config.seed)
        return [generated.audio(number) for number in chosen.tolist()]

    def _distances(self, subject: Subject, clips: Iterable[Tensor], total: int | None, references: list[Gaussian]) -> Report:
        found = {}
        for embedder, reference in zip(self.work.embedders, references, strict=True):
            with self._bar(f"{subject.name}: FAD {embedder.name}", total) as advance:
                try:
                    found[embedder.name] = measure_distance(
                        clips,
                        embedder,
                        reference,
                        seed=self.work.config.seed,
                        extrapolate=self.work.config.extrapolate,
                        progress=advance,
                    )
                except UserError as error:
                    raise UserError(f"{subject.path}: FAD {embedder.name}: {error}") from error
        return found

    def _histograms(self, models: list[Report]) -> None:
        """Adds to each model the histograms of its likelihoods, all over one span."""
        values = [bits for model in models for bits in (*model["nll"]["per_clip"], *model["generated"]["bits_per_sample"])]
        for model in models:
            span = min(values), max(values)
            real, own = model["nll"]["per_clip"], model["generated"]["bits_per_sample"]
            model["histogram"] = {"real": histogram(real, span), "generated": histogram(own, span)}

    def _measures(self, models: bool) -> list[dict[str, str]]:
        """The columns of the table."""
        split = self.reference.about["name"]
        found = [("NLL", "NLL, bits/sample", f"exact mean over all samples of {split}, lower is better")] if models else []
        for embedder in self.work.embedders:
            own = "; comparable with itself alone" if embedder.name == "logmel" else ""
            meaning = f"Fréchet audio distance from {split}, lower is better{own}"
            found.append((f"FAD {embedder.name}", f"FAD {embedder.name}", meaning))
            if self.work.config.extrapolate:
                found.append((f"FAD∞ {embedder.name}", f"FAD∞ {embedder.name}", "the same, extrapolated to infinitely many clips"))
        if self.digits is not None:
            found += [(title, title, meaning) for title, meaning in MEASURES.values()]
        return [{"name": name, "title": title, "meaning": meaning} for name, title, meaning in found]

    def _examples(self) -> list[Example]:
        work = self.work
        if work.data is None:
            assert isinstance(self.reference, FolderClips)
            sources = [(self.reference.about["name"], self.reference)]
            sources += [(s.name, f) for s, f in zip(work.subjects, work.folders, strict=True) if f is not None]
            heard = [[Heard(name, clip, self.reference.rate) for clip in islice(clips, work.config.examples)] for name, clips in sources]
            return [Example(f"Clip {i}", [clips[i] for clips in heard if i < len(clips)]) for i in range(max(map(len, heard)))]
        return [self._example(i, number, work.data) for i, number in enumerate(self.numbers)]

    def _example(self, i: int, number: int, data: AudioDataModule) -> Example:
        """A clip of the split, and the i-th clip of each subject."""
        assert self.prompts is not None
        rate, half = data.sample_rate, self.prompts.shape[1]
        clips = [Heard("real", data.audio(self.work.split, number), rate)]
        for place, (subject, folder) in enumerate(zip(self.work.subjects, self.work.folders, strict=True)):
            if folder is not None:
                clips += [Heard(subject.name, clip, rate) for clip in islice(folder, i, i + 1)]
                continue
            generated, continued = self.drawn[place]
            if i < len(generated):
                clips.append(Heard(f"generated by {subject.name}", generated.audio(i), rate))
            if continued is not None:
                whole = data.quantiser.decode_centre(torch.cat([self.prompts[i], continued.classes(i)]))
                clips.append(Heard(f"continued by {subject.name} from the line on", whole, rate, half / rate))
        return Example(f"Clip {number} of {self.reference.about['name']}", clips)

    @contextmanager
    def _bar(self, title: str, total: int | None) -> Iterator[Advance]:
        task = self.bars.add_task(title, total=total)
        yield lambda done: self.bars.advance(task, done)
        self.bars.remove_task(task)


def _value(value: float, interval: list[float] | None = None, mark: str = "") -> Report:
    """A cell of the table; `mark` is what must stand beside the number."""
    return {"value": value, "interval": interval, "mark": mark}


def _titled(scores: dict[str, Report], few: list[str]) -> Report:
    """Scores of SC09 as cells of the table; `few` marks the FID."""
    return {MEASURES[name][0]: _value(of["value"], of["interval"], "; ".join(few) if name == "fid" else "") for name, of in scores.items()}


def _of_fid(name: str, few: list[str]) -> list[str]:
    """Notes of a row's FID; that of the reference is told once."""
    return [f"{name}, FID: {note}" for note in few if not note.startswith("reference")]


def _trained_otherwise(config: str, data: AudioDataModule | None) -> str:
    """Which settings of the data a run was trained with that are not those of this data."""
    own = OmegaConf.select(OmegaConf.create(config), "data")
    if own is None or data is None:
        return ""
    settings = own.get("init_args", {})
    ours = {"class_path": type(data).__name__, "scaling": data.scaling, "clip_samples": data.clip_samples, "root": str(data.root)}
    theirs = {"class_path": str(own.class_path).split(".")[-1]} | {key: settings[key] for key in ours if key in settings}
    return ", ".join(f"{key} {theirs[key]}" for key in ours if key in theirs and str(theirs[key]) != str(ours[key]))
