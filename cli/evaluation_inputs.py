"""What an evaluation needs, found and checked before any work begins."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jsonargparse import SUPPRESS, ActionConfigFile, ArgumentParser, Namespace

from cli.generate_command import SPLITS, device_of
from cli.prepare_command import NOT_DATA, innermost
from datamodules import SC09, AudioDataModule
from datamodules.audio_folder import WholeFolder
from harmonicrnn import Voice
from harmonicrnn.audio.dataset import Split
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation import FolderClips, SplitClips
from harmonicrnn.evaluation.digit_classifier import load_digit_classifier
from harmonicrnn.evaluation.digit_evaluation import Classifier
from harmonicrnn.evaluation.subjects import Subject, find_subjects
from harmonicrnn.generation.clip_writer import Settings
from harmonicrnn.metrics import Embedder, make_embedder
from harmonicrnn.runs import Run
from lightning_modules import load_voice

FORMAT = 1
FEWEST_SELECTED = 8  # clips of which two are left by the selection by likelihood
EVALUATED: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True)
class Work:
    """What is evaluated, and against what.

    config: the arguments.
    subjects: what is measured; voices and folders: of each its model or its audio, and None for the other.
    data, split: what models are measured on; None where only folders are compared.
    training: the data that models were trained on; None where it is not known.
    folder: what is compared with where that is a folder, else None.
    drawing: what models draw; None where there are none.
    embedders: of the FAD.
    classifier: of digits, for the scores of SC09; None for none.
    """

    config: Namespace
    subjects: list[Subject]
    voices: list[Voice | None]
    folders: list[FolderClips | None]
    data: AudioDataModule | None
    split: Split
    training: AudioDataModule | None
    folder: FolderClips | None
    drawing: Settings | None
    embedders: list[Embedder]
    classifier: Classifier | None

    def conversions(self) -> list[str]:
        """What is done to the audio of folders, in lines."""
        clips = [self.folder, *self.folders]
        return [f"{each.folder}: {note}" for each in clips if each is not None for note in each.notes]

    def settings(self) -> dict[str, Any]:
        """What drawn clips and measurements of them depend on, as JSON knows it."""
        reference: dict[str, Any] = {"against": self.config.against}
        if self.folder is not None:
            reference |= {"checksum": self.folder.about["checksum"], "protocol": self.folder.about["protocol"]}
        if self.data is not None:
            checksum = {} if self.folder is not None else {"checksum": self.data.checksum(self.split)}
            reference |= {"protocol": self.data.protocol} | checksum
        rows = zip(self.subjects, self.folders, strict=True)
        return {
            "format": FORMAT,
            "subjects": [
                {"path": str(subject.path), "checksum": clips.about["checksum"] if clips else subject.checksum} for subject, clips in rows
            ],
            "reference": reference,
            "drawing": asdict(self.drawing) if self.drawing else None,
        }

    def reference(self, shards: Path) -> SplitClips | FolderClips:
        """The clips compared with; a folder that models are measured on is prepared in `shards`."""
        if self.data is None:
            assert self.folder is not None
            return self.folder
        if isinstance(self.data, WholeFolder):
            self.data.shards = shards
            self.data.setup("test")
        return SplitClips(self.data, self.split)


def gather(config: Namespace, of_data: Sequence[str], logs: Path) -> Work:
    """Finds and opens all that is needed.

    Args:
        config: the arguments of the command.
        of_data: those of its data, not parsed yet.
        logs: the folder that runs lie in.

    Raises:
        UserError, argparse.ArgumentError: what is wrong with them, or with what they name.
    """
    check_numbers(config)
    subjects = find_subjects(config.subjects, logs)
    runs = [subject.run for subject in subjects if subject.run]
    training = read_data(config.config or [], of_data, runs)
    split, folder = reference_of(config.against)
    data = training
    if folder is None:
        if data is None:
            raise UserError(f"--against {split}: nothing says of which data; give a run, a --config, or a folder to compare with")
        data.prepare_data()
        data.setup(SPLITS[split])
    elif data is not None:
        data = whole_folder(folder, data)
    rate, samples = (data.sample_rate, data.clip_samples) if data else (None, None)
    if config.seconds is not None and data is not None:
        raise UserError(
            "--seconds is for folders that are compared with one another; here clips are as long as the data's: --data.clip_samples"
        )
    against = None
    if folder is not None:
        against = FolderClips(folder, rate)
        rate = against.rate
    if config.seconds is not None:
        samples = max(1, round(config.seconds * rate))
        against = FolderClips(folder, rate, samples)
    voices = [subject_voice(subject, data, config.device) if subject.run else None for subject in subjects]
    folders = [None if subject.run else FolderClips(subject.path, rate, samples, data) for subject in subjects]
    drawing = drawn(config, data.clip_samples / data.sample_rate) if data and runs else None
    if drawing:
        drawing.samples(rate)
    embedders = [make_embedder(name, rate, config.weights, device_of(config.device)) for name in config.embeddings]
    classifier = None if config.classifier is None else load_classifier(config, training)
    return Work(config, subjects, voices, folders, data, split, training, against, drawing, embedders, classifier)


def check_numbers(config: Namespace) -> None:
    """Raises UserError where a number is out of range, or an embedding is there twice."""
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
    """What a model draws in clips of this length; raises UserError where numbers are out of range."""
    return Settings(seconds, config.clips, config.batch, config.seed, config.temperature, config.top_p)


def reference_of(against: str) -> tuple[Split, Path | None]:
    """The split that is compared with, and the folder where it is one; raises UserError where it is neither."""
    for split in EVALUATED:
        if against == split:
            return split, None
    if not Path(against).is_dir():
        raise UserError(f"--against {against}: is neither validation nor test, nor a folder that is there")
    return "test", Path(against)


def read_data(configs: Sequence[str], arguments: Sequence[str], runs: Sequence[Run]) -> AudioDataModule | None:
    """The data of the configs, or else of the first run, with the arguments; None where there is neither.

    Raises:
        UserError: there are runs, but nothing says what they were trained on, or the data cannot be made.
    """
    sources = list(configs) or [str(run.config) for run in runs if run.config.is_file()][:1]
    if runs and not sources:
        raise UserError(f"{runs[0].checkpoint}: there is no {runs[0].config} that says what it was trained on; give it with --config")
    if not sources and not arguments:
        return None
    parser = ArgumentParser(prog="train.py evaluate", parser_mode="omegaconf+", exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_subclass_arguments(AudioDataModule, "data", required=True)
    for key in NOT_DATA:
        parser.add_argument(f"--{key}", type=Any, help=SUPPRESS)
    config = parser.parse_args([*(token for path in sources for token in ("--config", path)), *arguments])
    for key in NOT_DATA:
        config.pop(key, None)
    try:
        data: AudioDataModule = parser.instantiate(config).data
    except ValueError as error:
        raise UserError(str(innermost(error))) from error
    return data


def load_classifier(config: Namespace, training: AudioDataModule | None) -> Classifier:
    """The classifier of digits, with the training split read that its scores refer to.

    Raises:
        UserError: it cannot be read, or there is no SC09.
    """
    if not isinstance(training, SC09):
        raise UserError(
            f"--classifier {config.classifier}: its scores refer to the training split of SC09; give a run trained on it or a --config"
        )
    classifier: Classifier = load_digit_classifier(config.classifier, device_of(config.device))
    if training.sample_rate != classifier.rate:
        raise UserError(f"--classifier {config.classifier}: hears {classifier.rate} Hz, the data has {training.sample_rate} Hz")
    if config.clips < FEWEST_SELECTED:
        raise UserError(
            f"--clips must be at least {FEWEST_SELECTED} for the selection by likelihood of the SC09 scores, got {config.clips}"
        )
    training.prepare_data()
    training.setup("fit")
    return classifier


def whole_folder(folder: Path, like: AudioDataModule) -> WholeFolder:
    """A folder as data of the same kind."""
    return WholeFolder(
        folder,
        sample_rate=like.sample_rate,
        bits=like.bits,
        law=like.quantiser.law,
        scaling=like.scaling,
        clip_samples=like.clip_samples,
        batch_size=like.batch_size,
        num_workers=like.num_workers,
        eval_context=like.eval_context,
    )


def subject_voice(subject: Subject, data: AudioDataModule | None, device: str) -> Voice:
    """A subject's model.

    Raises:
        UserError: it cannot be read, or the data is not of its kind.
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
