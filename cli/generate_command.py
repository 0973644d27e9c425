"""`python train.py generate`: audio from a trained model."""

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import SUPPRESS, ActionConfigFile, ArgumentParser, Namespace
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from torch import Tensor

from cli.detector_reference import usual_sound
from cli.prepare_command import innermost
from datamodules import AudioDataModule
from harmonicrnn import Voice
from harmonicrnn.audio.writing import pcm16, writing
from harmonicrnn.errors import UserError
from harmonicrnn.generation.clip_folder import Generated, free_folder
from harmonicrnn.generation.clip_writer import Clip, ClipWriter, Settings
from harmonicrnn.generation.prompts import conversion
from harmonicrnn.generation.sampler import starting_states
from harmonicrnn.provenance import sha256
from harmonicrnn.runs import Run
from lightning_modules import load_voice

SPLITS = {"train": "fit", "validation": "validate", "test": "test"}  # and the stage that reads them
NOT_NEEDED = ("seed_everything", "model", "ema", "samples", "fad", "checkpoint", "trainer", "weights_only")
SHOWN = 20


def generate(args: Sequence[str], run: Run | None) -> None:
    """Draw clips from a run's model into a folder with a manifest, or one into standard output.

    Args:
        args: the command line after `generate`.
        run: whose model; None where only help is asked for.

    Raises:
        UserError, argparse.ArgumentError: something is wrong with the arguments, the run, the prompt or the disk.
    """
    parser = make_parser(run)
    config = parser.parse_args(list(args))
    assert run is not None
    for key in NOT_NEEDED:
        config.pop(key, None)
    try:
        data: AudioDataModule | None = parser.instantiate(config).get("data")
    except ValueError as error:
        raise UserError(str(innermost(error))) from error
    settings = Settings(**{field.name: config[field.name] for field in fields(Settings)})
    if config.stdout:
        check_stdout(config, settings)
    folder = None if config.stdout else free_folder(config.out, run.folder, config.overwrite)
    console = Console(stderr=True)
    voice = load_voice(run.checkpoint, data.scaling if data else None, device_of(config.device))
    if data is not None:
        check_same_classes(data, voice)
    samples = settings.samples(voice.sample_rate, to_file=folder is not None)
    prompts = read_prompts(config, settings, voice, data, run, console)
    start = starting_states(voice.net, prompts)
    console.print(f"Checkpoint {run.checkpoint} of run {run.folder}", soft_wrap=True, highlight=False)
    reference = usual_sound(data, voice.quantiser, run.folder / "usual_sound.json" if run.config.is_file() else None)
    with progress_bar(console, settings.clips * samples, voice.sample_rate) as progress:
        writer = ClipWriter(voice.engine(config.weights), start, voice.quantiser, voice.sample_rate, reference, progress)
        if folder is None:
            clip = play(writer, settings, voice)
        else:
            generated = Generated(folder, about_run(run, voice, config, settings, prompts) | {"usual": asdict(reference)})
            generated.begin(settings, voice.sample_rate, voice.quantiser, prompts)
            for finished in writer.write(folder, settings):
                generated.add([finished], voice.sample_rate)
            generated.finish()
    if folder is not None:
        report(generated, reference.source)
    elif clip is not None:
        console.print("; ".join([f"{clip.bits_per_sample:.4f} bits/sample", *map(str, clip.findings)]), highlight=False)


def make_parser(run: Run | None) -> ArgumentParser:
    """Arguments over the settings of the run's data."""
    parser = ArgumentParser(
        prog="train.py generate",
        description="Audio from a trained model: the newest run's best checkpoint, unless --config or --ckpt_path say otherwise.",
        parser_mode="omegaconf+",
        exit_on_error=False,
        default_config_files=[str(run.config)] if run and run.config.is_file() else [],
    )
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="Path to the config of a training, whose newest run is taken.")
    parser.add_argument("--ckpt_path", type=str | None, default=None, help="A checkpoint, or best or last of the newest run.")
    parser.add_class_arguments(Settings, None)
    parser.add_argument(
        "--prompt", type=str | None, help="What is continued: an audio file, by all clips; or a split, by clip i its clip i."
    )
    parser.add_argument(
        "--prompt_seconds",
        type=float | None,
        help="Length of the prompt's beginning that is taken; null for all of a file, half of a split's clips.",
    )
    parser.add_argument("--out", type=Path | None, help="Folder for the clips; null for generated_N in the run's folder.")
    parser.add_argument("--overwrite", action="store_true", help="Replace the clips that are in the folder.")
    parser.add_argument(
        "--stdout", action="store_true", help="Write one clip to standard output instead: raw 16-bit little-endian samples, mono."
    )
    parser.add_argument(
        "--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="Where the model works; auto is a GPU if there is one."
    )
    parser.add_argument(
        "--weights",
        type=Literal["full", "bfloat16", "int8"],
        default="full",
        help="How the CPU keeps the weights: rounded to fewer bits it is faster, and not quite the same model.",
    )
    parser.add_subclass_arguments(AudioDataModule, "data", required=False)
    for key in NOT_NEEDED:
        parser.add_argument(f"--{key}", type=Any, help=SUPPRESS)
    return parser


def check_stdout(config: Namespace, settings: Settings) -> None:
    """Raises UserError where the arguments do not go with --stdout."""
    for wrong, why in (
        (settings.clips != 1, "takes one clip (--clips 1)"),
        (settings.reject, "cannot take back what was played: leave --reject out"),
        (config.out is not None or config.overwrite, "writes no files: leave --out and --overwrite out"),
        (sys.stdout.isatty(), "writes raw samples, which a terminal cannot show: pipe them into a player or a file"),
    ):
        if wrong:
            raise UserError(f"--stdout {why}")


def device_of(name: str) -> torch.device:
    """Raises UserError where there is none of that name."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no GPU that can be used; leave it out")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_same_classes(data: AudioDataModule, voice: Voice) -> None:
    """Raises UserError where the classes of the data do not mean what the model's do."""
    if (data.quantiser, data.sample_rate) != (voice.quantiser, voice.sample_rate):
        ours, theirs = (
            f"{q.law} {q.bits} bit, {rate} Hz" for q, rate in ((voice.quantiser, voice.sample_rate), (data.quantiser, data.sample_rate))
        )
        raise UserError(
            f"the data is {theirs}, the model of {voice.checkpoint} was trained on {ours}: leave data.law, data.bits and data.sample_rate "
            "as they were"
        )


def read_prompts(
    config: Namespace, settings: Settings, voice: Voice, data: AudioDataModule | None, run: Run, console: Console
) -> Tensor | None:
    """Classes of what is continued, (1, T) or (clips, T); None for nothing.

    Raises:
        UserError: the prompt cannot be had.
    """
    seconds = config.prompt_seconds
    if config.prompt is None:
        if seconds is not None:
            raise UserError(f"--prompt_seconds ({seconds:g}) needs a --prompt")
        return None
    if seconds is not None and not (math.isfinite(seconds) and round(seconds * voice.sample_rate) >= 1):
        raise UserError(f"--prompt_seconds ({seconds:g}) must be above 0, one sample at least, and finite")
    if config.prompt in SPLITS:
        if data is None:
            raise UserError(f"--prompt {config.prompt}: there is no {run.config} that names the data; give --config")
        return split_prompts(data, config.prompt, voice, seconds, settings.clips)
    path = Path(config.prompt)
    if not path.is_file():
        raise UserError(f"--prompt {path}: there is no such file; give an audio file, train, validation or test")
    if notice := conversion(path, voice.sample_rate):
        console.print(notice, soft_wrap=True, highlight=False)
    return voice.classes(path, seconds=seconds)[None]


def split_prompts(data: AudioDataModule, split: Any, voice: Voice, seconds: float | None, clips: int) -> Tensor:
    """The beginnings of a split's first clips, (clips, T); those that are long enough, and the first again where there are too few.

    Raises:
        UserError: the data has no clip that is long enough.
    """
    length = data.clip_samples // 2 if seconds is None else round(seconds * voice.sample_rate)
    data.setup(SPLITS[split])
    found: list[Tensor] = []
    for index in range(data.clip_count(split)):
        batch = data.clip(split, index)
        if batch.valid.sum() >= length:
            found.append(batch.classes[:length])
        if len(found) == clips:
            break
    if not found or length > data.clip_samples:
        raise UserError(f"--prompt {split}: none of its clips is {length / voice.sample_rate:g} s long; take a shorter --prompt_seconds")
    return torch.stack([found[i % len(found)] for i in range(clips)])


def about_run(run: Run, voice: Voice, config: Namespace, settings: Settings, prompts: Tensor | None) -> dict[str, Any]:
    """What the manifest says of where clips come from."""
    prompt = None
    if prompts is not None:
        prompt = {"from": config.prompt, "seconds": prompts.shape[1] / voice.sample_rate, "samples": prompts.shape[1]}
    return {
        "checkpoint": {"path": str(run.checkpoint), "sha256": sha256(run.checkpoint)},
        "settings": asdict(settings) | {"weights": config.weights},
        "audio": {"sample_rate": voice.sample_rate, **asdict(voice.quantiser), "scaling": voice.scaling},
        "prompt": prompt,
    }


def play(writer: ClipWriter, settings: Settings, voice: Voice) -> Clip | None:
    """Draws a clip into standard output; None where its reader stopped before the end."""

    def hear(classes: Tensor) -> None:
        sys.stdout.buffer.write(pcm16(voice.quantiser.decode_centre(classes).numpy()).tobytes())
        sys.stdout.buffer.flush()

    try:
        with writing(Path("standard output")):
            return writer.play(settings, hear)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            # What is left in the buffer goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error.__cause__, BrokenPipeError):
            return None
        raise


@contextmanager
def progress_bar(console: Console, samples: int, sample_rate: int) -> Iterator[Callable[[int], None]]:
    """What is told how many samples were drawn, of so many and those that are drawn again; at the end it says how fast that was."""
    columns = (TextColumn("Generating"), BarColumn(), RealTime(sample_rate), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=samples)

        def advance(drawn: int) -> None:
            done = bar.tasks[task].completed + drawn
            bar.update(task, completed=done, total=max(done, bar.tasks[task].total or 0))

        yield advance
        drawn, seconds = bar.tasks[task].completed / sample_rate, bar.tasks[task].elapsed or 1
    console.print(f"{drawn:.3g} s of audio in {seconds:.3g} s: {drawn / seconds:.3g} x real time", highlight=False)


def report(generated: Generated, usual: str) -> None:
    """Prints the clips, likeliest first."""
    table = Table("clip", "seconds", "bits/sample", "drawn again", "found")
    rows = generated.clips
    for row in rows[:SHOWN]:
        findings = ", ".join(f"{found['kind']} from {found['start']:g} s" for found in row["findings"])
        table.add_row(row["file"], f"{row['seconds']:g}", f"{row['bits_per_sample']:.4f}", str(row["redraws"]), findings or "nothing")
    console = Console()
    console.print(table)
    if len(rows) > SHOWN:
        console.print(f"and {len(rows) - SHOWN} more in the manifest")
    console.print(f"Found by comparison with: {usual}", soft_wrap=True, highlight=False)
    console.print(f"Written to {generated.manifest}", soft_wrap=True, highlight=False)


class RealTime(ProgressColumn):
    """Seconds of audio made in a second, all clips together."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / (task.elapsed or 1) / self.sample_rate:.3g} x real time")
