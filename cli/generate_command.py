"""`python train.py generate`: audio from a trained model, as the library draws it, and what needs the data that it was trained on."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from torch import Tensor

from cli.first_pass import log_folder
from harmonicrnn.audio import Scaling
from harmonicrnn.cli import generating
from harmonicrnn.cli.generating import begin, check_prompt_seconds, device_of, draw, file_prompt
from harmonicrnn.errors import UserError
from harmonicrnn.generation.detectors import Reference
from harmonicrnn.runs import Run, find_run
from harmonicrnn.voice import Voice, load

if TYPE_CHECKING:
    from datamodules import AudioDataModule

DESCRIPTION = "Audio from a trained model: the newest run's best checkpoint, unless --config or --ckpt_path say otherwise."
SPLITS = {"train": "fit", "validation": "validate", "test": "test"}  # and the stage that reads them


def generate(command: str, options: Namespace, args: Sequence[str]) -> int:
    """Draw clips from a run's model into a folder with a manifest, or one into standard output.

    Data is imported and read only where it is asked for: most of what it takes to start is Lightning.

    Args:
        command: its name.
        options: as the first pass read them.
        args: of the command line, after the command.

    Raises:
        UserError, ArgumentError: something is wrong with the arguments, the run, the prompt or the disk.
    """
    if options.help:
        read(args)
    run = find_run(options.ckpt_path, log_folder(options))
    own = run.folder if run.config.is_file() else None
    defaults = [str(run.config)] if own else []
    data = None
    if options.config or "data" in options or options.print_config is not None or (own and options.prompt in SPLITS):
        data = read(args, defaults)
    settings, folder = begin(options, run)
    voice = load_any(run.checkpoint, data.scaling if data else None, device_of(options.device))
    if data is not None:
        check_same_classes(data, voice)
    if options.prompt in SPLITS:
        prompts = split_prompts(options, run, data, voice, settings.clips)
    else:
        prompts = file_prompt(options, voice, ", train, validation or test")

    def reference() -> Reference:
        if data is None and own and (kept := Reference.read(own)):
            return kept
        from cli.detector_reference import detector_reference

        used = data
        if used is None and own:
            with suppress(UserError, ArgumentError):
                used = read([], defaults)
        return detector_reference(used, voice.quantiser, own)

    draw(options, settings, folder, run, voice, prompts, reference)
    return 0


def add_options(parser: ArgumentParser) -> None:
    """Those beside the data's."""
    generating.add_options(parser, "What is continued: an audio file, by all clips; or a split, by clip i its clip i.")


def read(args: Sequence[str], defaults: Sequence[str] = ()) -> "AudioDataModule":
    """The data that the arguments name, over these configs."""
    from cli.data_options import read_data

    return read_data("generate", DESCRIPTION, add_options, args, defaults)


def load_any(path: Path, scaling: Scaling | None, device: torch.device) -> Voice:
    """The model of a checkpoint, of HarmonicRNN or of another module.

    Raises:
        UserError: it cannot be used.
    """
    try:
        return load(path, scaling, device)
    except UserError:
        from lightning_modules import load_voice

        return load_voice(path, scaling, device)


def check_same_classes(data: "AudioDataModule", voice: Voice) -> None:
    """Raises UserError where the classes of the data do not mean what the model's do."""
    if (data.quantiser, data.sample_rate) != (voice.quantiser, voice.sample_rate):
        ours, theirs = (
            f"{q.law} {q.bits} bit, {rate} Hz" for q, rate in ((voice.quantiser, voice.sample_rate), (data.quantiser, data.sample_rate))
        )
        raise UserError(
            f"the data is {theirs}, the model of {voice.checkpoint} was trained on {ours}: leave data.law, data.bits and data.sample_rate "
            "as they were"
        )


def split_prompts(options: Namespace, run: Run, data: "AudioDataModule | None", voice: Voice, clips: int) -> Tensor:
    """The beginnings of a split's first clips, (clips, T); those that are long enough, and the first again where there are too few.

    Raises:
        UserError: there is no data, or it has no clip that is long enough.
    """
    check_prompt_seconds(options, voice)
    split, seconds = options.prompt, options.prompt_seconds
    if data is None:
        raise UserError(f"--prompt {split}: there is no {run.config} that names the data; give --config")
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
