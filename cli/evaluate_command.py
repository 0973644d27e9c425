"""Command `train.py evaluate`: measure and compare models and folders of audio, with a report as JSON and HTML."""

import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.data_options import read_data
from cli.first_pass import log_folder
from cli.generate_command import SPLITS, check_same_classes, detector_reference
from cli.progress_bars import progress_bars
from datamodules import SC09, AudioDataModule
from datamodules.audio_folder import WholeFolder
from harmonicrnn import Voice
from harmonicrnn.audio.dataset import Split
from harmonicrnn.audio.writing import writing
from harmonicrnn.cli.generating import add_device, device_of
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import FolderClips
from harmonicrnn.evaluation.digit_classifier import load_digit_classifier
from harmonicrnn.evaluation.evaluator import DigitScoring, Evaluation, Evaluator
from harmonicrnn.evaluation.page import number, write_page
from harmonicrnn.evaluation.records import Cell, Report
from harmonicrnn.evaluation.report_folder import PAGE, REPORT, SHARDS, hold_report_folder
from harmonicrnn.evaluation.subjects import Subject, find_subjects
from harmonicrnn.files import pasteable, side_product, write_json
from harmonicrnn.generation.clip_writer import Settings
from harmonicrnn.metrics import EmbeddingName, make_embedder
from harmonicrnn.metrics.statistics_cache import default_cache
from harmonicrnn.runs import Run
from lightning_modules import load_voice

DESCRIPTION = (
    "Measure likelihood, Fréchet audio distance and more of models and folders of audio, and write a report as JSON and HTML. Data "
    "settings default to those of the first run (override with --data.root DIR, for example)."
)
FEWEST_SELECTED = 8  # least clips of which the selection by likelihood keeps two
EVALUATED: tuple[Split, ...] = ("validation", "test")


def evaluate(command: str, options: Namespace, args: Sequence[str]) -> int:
    """Measure runs, checkpoints and folders of audio against a split or a folder, and write a report folder.

    Raises:
        UserError, ArgumentError: the arguments, runs, audio or weights are invalid, or the report cannot be written.
    """
    if options.help:
        read_data(command, DESCRIPTION, add_options, args)
    console = Console(stderr=True)
    work = gather(options, partial(training_data, options, args), log_folder(options))
    for line in work.conversions():
        print(line, file=sys.stderr)
    run = next((subject.run.folder for subject, _ in work.subjects if subject.run), None)
    with hold_report_folder(options.out, run, work.settings(), options.overwrite) as out:
        if isinstance(work.data, WholeFolder):
            work.data.shards = out / SHARDS
            work.data.setup("test")
        with progress_bars(console) as bar:
            report, examples = Evaluator(work, out, bar).run(shlex.join(["python", "train.py", "evaluate", *args]))
        show(report)
        content = report.to_json()
        with writing(out):
            for name in (REPORT, PAGE):  # of the same command before, so that no page stands beside another report
                (out / name).unlink(missing_ok=True)
        with side_product(out / PAGE):
            write_page(out / PAGE, report, examples)
            print(f"Written to {pasteable(out / PAGE)}")
        # Written last: a folder without it is an incomplete evaluation.
        with writing(out / REPORT):
            write_json(out / REPORT, content)
        print(f"Written to {pasteable(out / REPORT)}")
    return 0


def training_data(options: Namespace, args: Sequence[str], runs: Sequence[Run]) -> AudioDataModule | None:
    """Return the data of the given configs, or else of the first run, overridden by the arguments; None if there is neither.

    Raises:
        UserError: the first run has no config and none is given, or the data module cannot be created.
    """
    own = [] if options.config else [str(run.config) for run in runs if run.config.is_file()][:1]
    if runs and not (options.config or own):
        raise UserError(
            f"{runs[0].checkpoint}: its training settings are unknown, as there is no {runs[0].config}; name a config with --config"
        )
    if not (options.config or own or "data" in options):
        return None
    return read_data("evaluate", DESCRIPTION, add_options, args, own)


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command, without those of the data."""
    add = parser.add_argument
    add("subjects", nargs="*", type=Path, help="Runs, checkpoints or folders of audio; default: best checkpoint of the newest run.")
    add("--against", type=str, default="test", help="Reference: validation, test, or a folder of audio.")
    add("--clips", type=int, default=256, help="Number of clips that each model draws.")
    add("--batch", type=int, default=32, help="Number of clips drawn together.")
    add("--seed", type=int, default=0, help="Seed of the clips, and of the resampling for confidence intervals.")
    add("--temperature", type=float, default=1.0, help="Divides the logits.")
    add("--top_p", type=float, default=1.0, help="Draw from the smallest set of most likely classes with this total probability.")
    add("--seconds", type=float | None, default=None, help="Seconds of the clips that folders are cut into; null for whole files.")
    add("--embeddings", nargs="+", type=EmbeddingName, default=["logmel"], help="For the FAD: logmel, vggish, pann, encodec, clap.")
    add("--weights", type=Path | None, default=None, help="Folder of the embeddings' weights; null for the folder of torch.hub.")
    add("--extrapolate", action="store_true", help="Extrapolate the FAD to infinitely many clips too (FAD-infinity).")
    add("--classifier", type=Path | None, default=None, help="Checkpoint of a digit classifier, or resnext.pth; adds the SC09 scores.")
    add("--examples", type=int, default=4, help="Number of example clips on the HTML page.")
    add("--out", type=Path | None, default=None, help="Folder of the report; null for evaluation_N in the first run's folder.")
    add("--overwrite", action="store_true", help="Replace an existing evaluation in the folder, with its clips.")
    add("--cache", type=Path | None, default=None, help="Folder for cached statistics of references; null for the user's cache.")
    add_device(parser)


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
    data, folder, split = training, None, "test"
    against = None if config.against in EVALUATED else Path(config.against)
    if against is None:
        if data is None:
            raise UserError(f"--against {config.against}: the data is unknown; give a run, a --config, or a folder to compare with")
        split = config.against
        data.prepare_data()
        data.setup(SPLITS[split])
    elif not against.is_dir():
        raise UserError(f"--against {against}: is neither validation nor test, nor a folder that is there")
    elif data is not None:
        data = whole_folder(against, data)
    if config.seconds is not None and data is not None:
        raise UserError(
            "--seconds is for folders that are compared with one another; here clips are as long as the data's: --data.clip_samples"
        )
    rate, samples = (data.sample_rate, data.clip_samples) if data else (None, None)
    if against is not None:
        folder = FolderClips(against, rate)
        rate = folder.rate
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
    check_same_classes(data, voice, "its likelihood has no meaning there: evaluate it by itself")
    return voice


def show(report: Report) -> None:
    """Print the table of a report and its notes."""
    table = Table("what", *(measure.title for measure in report.measures))
    for row in (*report.subjects, *report.untrained, *report.real):
        table.add_row(Text(row.name), *(_text(row.values.get(measure.name)) for measure in report.measures))
    Console().print(table)
    for note in report.notes:
        print(note)


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return f"{number(cell.value)} " + ("({} to {})".format(*map(number, cell.interval)) if cell.interval else "")
