"""Implements `harmonicrnn generate`: options, prompt, progress, output folder and report."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from harmonicrnn.audio import Quantiser
from harmonicrnn.cli.playing import check_not_a_terminal, playing, sound_device, standard_output
from harmonicrnn.errors import UserError
from harmonicrnn.files import pasteable
from harmonicrnn.generation.clip_folder import Generated, check_free, hold_clips_folder
from harmonicrnn.generation.clip_writer import ClipWriter, Settings
from harmonicrnn.generation.detectors import Finding, Reference
from harmonicrnn.generation.prompts import conversion
from harmonicrnn.generation.sampler import starting_states
from harmonicrnn.provenance import sha256
from harmonicrnn.runs import Run
from harmonicrnn.voice import Voice

SHOWN = 20


def add_options(parser: ArgumentParser, prompts: str = "An audio file that all clips continue.") -> None:
    """Adds the options of generation; `prompts` is the help text of --prompt."""
    add = parser.add_argument
    parser.add_class_arguments(Settings, None)
    add("--prompt", type=str | None, help=prompts)
    add(
        "--prompt_seconds",
        type=float | None,
        help="Seconds to use from the beginning of the prompt; null for all of a file, half of a clip.",
    )
    add("--out", type=Path | None, help="Folder for the clips; null for generated_N in the run's folder, or in this one for a voice.")
    add("--overwrite", action="store_true", help="Replace existing clips in the folder.")
    add("--stdout", action="store_true", help="Write one clip to standard output instead: raw 16-bit little-endian samples, mono.")
    add("--play", action="store_true", help="Play the clip while it is drawn and written. Ctrl-C ends it and keeps what was played.")
    add_device(parser)
    add(
        "--weights",
        type=Literal["full", "bfloat16", "int8"],
        default="full",
        help="Storage of the weights on the CPU: fewer bits are faster, but slightly change the model.",
    )


def add_device(parser: ArgumentParser) -> None:
    """Adds the option --device."""
    names = Literal["auto", "cpu", "cuda"]
    parser.add_argument("--device", type=names, default="auto", help="Device for models; auto is a GPU if there is one.")


def device_of(name: str) -> torch.device:
    """Returns the device; raises UserError if it is not available."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no GPU that can be used; leave it out")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def begin(options: Namespace) -> Settings:
    """Returns the settings; creates nothing.

    Raises:
        UserError: options are out of range or conflict, or the folder is in use.
    """
    settings = Settings(**{field.name: options[field.name] for field in fields(Settings)})
    for to in ("play", "stdout"):
        for wrong, why in (
            (settings.clips != 1, "takes one clip (--clips 1)"),
            (settings.reject, "cannot take back what was played: leave --reject out"),
            (to == "play" and options.stdout, "and --stdout are two ways to hear a clip: leave one out"),
            (to == "stdout" and (options.out is not None or options.overwrite), "writes no files: leave --out and --overwrite out"),
        ):
            if options[to] and wrong:
                raise UserError(f"--{to} {why}")
    if options.play:
        sound_device()
    if options.stdout:
        check_not_a_terminal()
    if options.out is not None:
        check_free(options.out, options.overwrite)
    return settings


def check_prompt_seconds(options: Namespace, voice: Voice) -> None:
    """Raises UserError if --prompt_seconds is out of range or given without a prompt."""
    seconds = options.prompt_seconds
    if seconds is not None and options.prompt is None:
        raise UserError(f"--prompt_seconds ({seconds:g}) needs a --prompt")
    if seconds is not None and not (math.isfinite(seconds) and round(seconds * voice.sample_rate) >= 1):
        raise UserError(f"--prompt_seconds ({seconds:g}) must be above 0, one sample at least, and finite")


def file_prompt(options: Namespace, voice: Voice, others: str = "") -> Tensor | None:
    """Returns the classes of the prompt file, (1, T), which all clips continue; None without a prompt.

    `others` names alternatives to a file, for the message.

    Raises:
        UserError: the file cannot be used.
    """
    check_prompt_seconds(options, voice)
    if options.prompt is None:
        return None
    path = Path(options.prompt)
    if not path.is_file():
        raise UserError(f"--prompt {path}: there is no such file; give an audio file{others}")
    if notice := conversion(path, voice.sample_rate):
        print(notice, file=sys.stderr)
    return voice.classes(path, seconds=options.prompt_seconds)[None]


def draw(
    options: Namespace,
    settings: Settings,
    run: Run,
    voice: Voice,
    prompts: Tensor | None,
    reference: Callable[[], Reference],
) -> None:
    """Draws clips into a folder with a manifest, or one clip into standard output, and prints a report.

    Args:
        options: as declared by `add_options`.
        settings: as returned by `begin`.
        run, voice: the checkpoint's run and its model.
        prompts: classes to continue, (1 or clips, T); None for silence.
        reference: makes the reference for the detectors; called after the first clips.

    Raises:
        UserError: an option is out of range for this model, or files cannot be written.
    """
    settings = settings if settings.temperature is not None else replace(settings, temperature=voice.temperature)
    console, samples = Console(stderr=True), settings.samples(voice.sample_rate, to_file=not options.stdout)
    start = starting_states(voice.net, prompts)
    of_run = f"Checkpoint {pasteable(run.checkpoint)} of run {pasteable(run.folder)}"
    print(f"Voice {pasteable(run.folder)}" if run.is_voice else of_run, file=sys.stderr)
    engine = voice.engine(options.weights)
    with ExitStack() as stack:
        folder, heard, clip = None, None, None
        if not options.stdout:
            folder = stack.enter_context(hold_clips_folder(options.out, Path() if run.is_voice else run.folder, options.overwrite))
        if options.play and folder is not None:
            heard = stack.enter_context(playing(voice.sample_rate, folder / f"clip_0000.{settings.format}"))
        progress = stack.enter_context(progress_bar(console, settings.clips * samples, voice.sample_rate))
        usual = WhenNeeded(reference)
        played = None if heard is None else decoded(voice.quantiser, heard)
        writer = ClipWriter(engine, start, voice.quantiser, voice.sample_rate, usual, progress, played)
        if folder is None:
            with standard_output() as written:
                clip = writer.play(settings, decoded(voice.quantiser, written))
        else:
            prompt = None
            if prompts is not None:
                prompt = {"from": options.prompt, "seconds": prompts.shape[1] / voice.sample_rate, "samples": prompts.shape[1]}
            origin = {
                "checkpoint": {"path": str(run.checkpoint), "sha256": sha256(run.checkpoint)},
                "settings": asdict(settings) | {"weights": options.weights},
                "audio": {"sample_rate": voice.sample_rate, **asdict(voice.quantiser), "scaling": voice.scaling},
                "prompt": prompt,
            }
            generated = Generated(folder, origin)
            generated.begin(settings, voice.sample_rate, voice.quantiser, prompts)
            for finished in writer.write(folder, settings):
                generated.about["reference"] = asdict(usual.reference())
                generated.add([finished], voice.sample_rate)
            generated.finish()
    if folder is not None:
        report(generated)
    elif clip is not None:
        print("; ".join([f"{clip.bits_per_sample:.4f} bits/sample", *map(str, clip.findings)]), file=sys.stderr)


def decoded(quantiser: Quantiser, hear: Callable[[np.ndarray], None]) -> Callable[[Tensor], None]:
    """Returns a function of classes (n,) that calls `hear` with their samples."""
    return lambda classes: hear(quantiser.decode_centre(classes).numpy())


@contextmanager
def progress_bar(console: Console, samples: int, sample_rate: int) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with numbers of drawn samples, out of `samples` plus redrawn ones; prints the speed at the end."""
    columns = (TextColumn("Generating"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        bar.add_task("", total=samples)
        (task,) = bar.tasks

        def speed() -> str:
            return f"{task.completed / (task.elapsed or 1) / sample_rate:.3g} x real time"

        def advance(drawn: int) -> None:
            done = task.completed + drawn
            bar.update(task.id, completed=done, total=max(done, task.total or 0), description=speed())

        yield advance
        told = f"{task.completed / sample_rate:.3g} s of audio in {task.elapsed or 1:.3g} s: {speed()}"
    console.print(told, highlight=False)


def report(generated: Generated) -> None:
    """Prints the clips, most likely first."""
    table = Table("clip", "seconds", "bits/sample", "drawn again", "found")
    rows = generated.clips
    for row in rows[:SHOWN]:
        findings = ", ".join(f"{found['kind']} from {found['start']:g} s" for found in row["findings"])
        table.add_row(row["file"], f"{row['seconds']:g}", f"{row['bits_per_sample']:.4f}", str(row["redraws"]), findings or "nothing")
    Console().print(table)
    if len(rows) > SHOWN:
        print(f"and {len(rows) - SHOWN} more in the manifest")
    print(f"Found by comparison with: {generated.about['reference']['source']}")
    print(f"Written to {pasteable(generated.manifest)}")


class WhenNeeded:
    """A reference made on first use, since making it may take longer than drawing a clip."""

    def __init__(self, make: Callable[[], Reference]) -> None:
        self.reference = cache(make)

    def findings(self, frames: np.ndarray) -> list[Finding]:
        """As `Reference.findings`."""
        return self.reference().findings(frames)
