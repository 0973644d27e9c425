"""Command `train.py export`: export a run's model as a voice."""

from collections.abc import Sequence

import torch
from jsonargparse import ArgumentParser, Namespace

from cli.first_pass import CHECKPOINT, log_folder
from cli.generate_command import load_any
from harmonicrnn.cli.library_commands import add_export_options, export_voice
from harmonicrnn.runs import find_run
from harmonicrnn.voice import Voice

DESCRIPTION = "Export a checkpoint as a voice, a folder to share. Default: best checkpoint of the newest run."


def export(command: str, options: Namespace, args: Sequence[str]) -> int:
    """Export a run's checkpoint as a voice.

    Raises:
        UserError: the options or the run are invalid, or the folder cannot be written.
    """
    if options.help:
        parser = ArgumentParser(prog=f"train.py {command}", description=DESCRIPTION)
        parser.add_argument("-c", "--config", type=str, help="Path to the config of a training.")
        parser.add_argument("--ckpt_path", type=str | None, help=CHECKPOINT)
        add_options(parser)
        parser.parse_args(["--help"])

    def load_model() -> Voice:
        run = find_run(options.ckpt_path, log_folder(options))
        return load_any(run.checkpoint, options.scaling, torch.device("cpu"))

    export_voice(options, load_model)
    return 0


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command."""
    add_export_options(parser, run=False)
