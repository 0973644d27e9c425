"""Collection and validation of the inputs of `train.py evaluate`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from jsonargparse import Namespace

from cli.generate_command import SPLITS, detector_reference
from datamodules import SC09, AudioDataModule
from datamodules.audio_folder import WholeFolder
from harmonicrnn import Voice
from harmonicrnn.audio.dataset import Split
from harmonicrnn.cli.generating import device_of
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import FolderClips
from harmonicrnn.evaluation.digit_classifier import load_digit_classifier
from harmonicrnn.evaluation.evaluator import DigitScoring, Evaluation
from harmonicrnn.evaluation.subjects import Subject, find_subjects
from harmonicrnn.generation.clip_writer import Settings
from harmonicrnn.metrics import make_embedder
from harmonicrnn.metrics.statistics_cache import default_cache
from harmonicrnn.runs import Run
from lightning_modules import load_voice

FEWEST_SELECTED = 8  # least clips of which the selection by likelihood keeps two
EVALUATED: tuple[Split, ...] = ("validation", "test")


def gather(config: Namespace, read_data: Callable[[Sequence[Run]], AudioDataModule | None], logs: Path) -> Evaluation:
    """Find, check and open all inputs, except a folder that models are measured on, which is prepared in the report's folder.

    Args:
        config: options of the command.
        read_data: returns the data described by the arguments and by the configs of the given runs; None if there is none.
        logs: folder of the runs.

    Raises:
        UserError, ArgumentError: the options, or the files that they name, are invalid.
    """
    check_numbers(config)
    subjects = find_subjects(config.subjects, logs)
    runs = [subject.run for subject in subjects if subject.run]
    training = read_data(runs)
    split, against = reference_of(config.against)
    data = training
    if against is None:
        if data is None:
            raise UserError(f"--against {split}: the data is unknown; give a run, a --config, or a folder to compare with")
        data.prepare_data()
        data.setup(SPLITS[split])
    elif data is not None:
        data = whole_folder(against, data)
    rate, samples = (data.sample_rate, data.clip_samples) if data else (None, None)
    if config.seconds is not None and data is not None:
        raise UserError(
            "--seconds is for folders that are compared with one another; here clips are as long as the data's: --data.clip_samples"
        )
    folder = FolderClips(against, rate) if against is not None else None
    rate = rate if folder is None else folder.rate
    if config.seconds is not None:
        samples = max(1, round(config.seconds * rate))
        folder = FolderClips(against, rate, samples)
    device = device_of(config.device)
    drawing = drawn(config, data.clip_samples / data.sample_rate) if data and runs else None
    if drawing:
        drawing.samples(rate)
    return Evaluation(
        subjects=[
            (subject, subject_voice(subject, data, config.device) if subject.run else FolderClips(subject.path, rate, samples, data))
            for subject in subjects
        ],
        data=data,
        split=split,
        training=training,
        unigram=data.with_training() if data is training and data is not None and runs else None,
        folder=folder,
        drawing=drawing,
        detectors=partial(detector_reference, training),
        embedders=[make_embedder(name, rate, config.weights, device) for name in config.embeddings],
        digits=None if config.classifier is None else digit_scoring(config, training, data),
        extrapolate=config.extrapolate,
        examples=config.examples,
        seed=config.seed,
        cache=default_cache() if config.cache is None else config.cache,
    )


def check_numbers(config: Namespace) -> None:
    """Raise UserError if a number is out of range or an embedding is named twice."""
    drawn(config, 1.0)
    if config.clips < 2:
        raise UserError(f"--clips must be at least 2 for a distance, got {config.clips}")
    if config.examples < 0:
        raise UserError(f"--examples must be 0 or more, got {config.examples}")
    if config.seconds is not None and not 0 < config.seconds < float("inf"):
        raise UserError(f"--seconds must be above 0, got {config.seconds}")
    for name in config.embeddings:
        if config.embeddings.count(name) > 1:
            raise UserError(f"--embeddings: {name} is named twice")


def drawn(config: Namespace, seconds: float) -> Settings:
    """Return the sampling settings for clips of `seconds` seconds; raises UserError if a number is out of range."""
    return Settings(seconds, config.clips, config.batch, config.seed, config.temperature, config.top_p)


def reference_of(against: str) -> tuple[Split, Path | None]:
    """Return the reference split, and the reference folder if it is one; raises UserError if `against` is neither."""
    if against in EVALUATED:
        return against, None
    if not Path(against).is_dir():
        raise UserError(f"--against {against}: is neither validation nor test, nor a folder that is there")
    return "test", Path(against)


def digit_scoring(config: Namespace, training: AudioDataModule | None, data: AudioDataModule | None) -> DigitScoring:
    """Load the digit classifier, and set up the splits for its scores (training) and its accuracy (test).

    Raises:
        UserError: the classifier cannot be read, the data is not SC09 at its sample rate, or there are too few clips.
    """
    if not isinstance(training, SC09):
        raise UserError(
            f"--classifier {config.classifier}: its scores refer to the training split of SC09; give a run trained on it or a --config"
        )
    classifier = load_digit_classifier(config.classifier, device_of(config.device))
    if training.sample_rate != classifier.rate:
        raise UserError(f"--classifier {config.classifier}: needs {classifier.rate} Hz, the data has {training.sample_rate} Hz")
    if config.clips < FEWEST_SELECTED:
        raise UserError(
            f"--clips must be at least {FEWEST_SELECTED} for the selection by likelihood of the SC09 scores, got {config.clips}"
        )
    training.prepare_data()
    training.setup("fit")
    if not isinstance(data, SC09):
        return DigitScoring(classifier, training, None)
    data.setup("test")
    return DigitScoring(classifier, training, data)


def whole_folder(folder: Path, like: AudioDataModule) -> WholeFolder:
    """Return a folder as a data module with the settings of `like`."""
    keys = ("sample_rate", "bits", "scaling", "clip_samples", "batch_size", "num_workers", "eval_context", "eval_clips")
    return WholeFolder(folder, law=like.quantiser.law, **{key: getattr(like, key) for key in keys})


def subject_voice(subject: Subject, data: AudioDataModule | None, device: str) -> Voice:
    """Load a subject's model.

    Raises:
        UserError: the model cannot be read, or the data has another quantiser or sample rate.
    """
    assert data is not None
    voice = load_voice(subject.path, data.scaling, device_of(device))
    if (data.quantiser, data.sample_rate) != (voice.quantiser, voice.sample_rate):
        theirs, ours = (
            f"{q.law} {q.bits} bit, {rate} Hz" for q, rate in ((voice.quantiser, voice.sample_rate), (data.quantiser, data.sample_rate))
        )
        raise UserError(
            f"{subject.path}: was trained on {theirs}, and the data compared with is {ours}, on which its likelihood has no meaning: "
            "evaluate it by itself"
        )
    return voice
