"""Command `train.py generate`: draw audio from a trained model, optionally with prompts from its data."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from torch import Tensor

from cli.first_pass import log_folder
from harmonicrnn.audio import Quantiser, Scaling
from harmonicrnn.cli import generating
from harmonicrnn.cli.generating import begin, check_prompt_seconds, device_of, draw, file_prompt
from harmonicrnn.errors import UserError
from harmonicrnn.generation.detectors import Reference
from harmonicrnn.runs import Run, find_run
from harmonicrnn.voice import Voice, load

if TYPE_CHECKING:
    from datamodules import AudioDataModule

DESCRIPTION = "Draw audio from a trained model. Default: best checkpoint of the newest run; see --config and --ckpt_path."
SPLITS = {"train": "fit", "validation": "validate", "test": "test"}  # and the stages that read them
REFERENCE_CLIPS = 256  # of the training split, evenly spread


def generate(command: str, options: Namespace, args: Sequence[str]) -> int:
    """Draw clips from a run's model into a folder with a manifest, or one clip to standard output.

    The data is imported and read only if needed, as importing Lightning takes most of the start time.

    Raises:
        UserError, ArgumentError: the arguments, the run or the prompt are invalid, or the clips cannot be written.
    """
    if options.help:
        read(args)
    run = find_run(options.ckpt_path, log_folder(options))
    own = run.folder if run.config.is_file() else None
    defaults = [str(run.config)] if own else []
    data = None
    if options.config or "data" in options or options.print_config is not None or (own and options.prompt in SPLITS):
        data = read(args, defaults)
    settings = begin(options)
    voice = load_any(run.checkpoint, data.scaling if data else None, device_of(options.device))
    if data is not None:
        check_same_classes(data, voice, "leave data.law, data.bits and data.sample_rate as they were")
    if options.prompt in SPLITS:
        prompts = split_prompts(options, run, data, voice, settings.clips)
    else:
        prompts = file_prompt(options, voice, ", train, validation or test")

    def reference() -> Reference:
        if data is None and own and (kept := Reference.read(own)):
            return kept
        used = data
        if used is None and own:
            with suppress(UserError, ArgumentError):
                used = read([], defaults)
        return detector_reference(used, voice.quantiser, own)

    draw(options, settings, run, voice, prompts, reference)
    return 0


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command, without those of the data."""
    generating.add_options(parser, "Prompt to continue: an audio file, for all clips; or a split, whose clip i is the prompt of clip i.")


def read(args: Sequence[str], defaults: Sequence[str] = ()) -> "AudioDataModule":
    """Return the data module of the arguments, with the configs in `defaults` as defaults."""
    from cli.data_options import read_data

    return read_data("generate", DESCRIPTION, add_options, args, defaults)


def load_any(path: Path, scaling: Scaling | None, device: torch.device) -> Voice:
    """Load the model of a checkpoint, HarmonicRNN or that of another module.

    Raises:
        UserError: the checkpoint cannot be used.
    """
    try:
        return load(path, scaling, device)
    except UserError:
        from lightning_modules import load_voice

        return load_voice(path, scaling, device)


def detector_reference(data: "AudioDataModule | None", quantiser: Quantiser, run: Path | None) -> Reference:
    """Return the reference values of the training split for the detectors of faulty clips, or the defaults if there is no such split.

    Args:
        data: data of the run; None if unknown.
        quantiser: quantiser of the model.
        run: folder in which the reference is cached, for data of the same protocol; None for no cache.
    """
    if data is None:
        return Reference.defaults(quantiser)
    if run is not None and (reference := Reference.read(run)) is not None and reference.source == data.protocol:
        return reference
    try:
        data.setup("fit")
    except UserError:
        return Reference.defaults(quantiser)
    clips = data.clip_count("train")
    batches = (data.clip("train", index) for index in range(0, clips, -(-clips // REFERENCE_CLIPS)))
    reference = Reference.of((batch.classes[batch.valid] for batch in batches), data.quantiser, data.sample_rate, data.protocol)
    if run is not None:
        reference.keep(run)
    return reference


def check_same_classes(data: "AudioDataModule", voice: Voice, advice: str) -> None:
    """Raise UserError if data and model differ in quantiser or sample rate."""
    if (data.quantiser, data.sample_rate) != (voice.quantiser, voice.sample_rate):
        ours, theirs = (f"{each.quantiser.law} {each.quantiser.bits} bit, {each.sample_rate} Hz" for each in (voice, data))
        raise UserError(f"{voice.checkpoint}: was trained on {ours}, and the data is {theirs}: {advice}")


def split_prompts(options: Namespace, run: Run, data: "AudioDataModule | None", voice: Voice, clips: int) -> Tensor:
    """Return the beginnings of the first clips of a split that are long enough, as classes (clips, T); repeated if there are too few.

    Raises:
        UserError: the data is unknown, or none of its clips is long enough.
    """
    check_prompt_seconds(options, voice)
    split, seconds = options.prompt, options.prompt_seconds
    if data is None:
        raise UserError(f"--prompt {split}: there is no {run.config} that names the data; give --config")
    length = data.clip_samples // 2 if seconds is None else round(seconds * voice.sample_rate)
    data.setup(SPLITS[split])
    whole = (data.clip(split, index) for index in range(data.clip_count(split)))
    found = list(islice((clip.classes[:length] for clip in whole if clip.valid.sum() >= length), clips))
    if not found or length > data.clip_samples:
        raise UserError(f"--prompt {split}: none of its clips is {length / voice.sample_rate:g} s long; take a shorter --prompt_seconds")
    return torch.stack([found[i % len(found)] for i in range(clips)])
