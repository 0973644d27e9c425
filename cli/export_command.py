"""Command `train.py export`: export a run's model as a voice."""

from collections.abc import Sequence

import torch
from jsonargparse import ArgumentParser, Namespace

from cli.first_pass import CHECKPOINT, log_folder
from cli.generate_command import load_any
from harmonicrnn.cli import add_scaling, exporting
from harmonicrnn.runs import find_run

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
    exporting.check_out(options)
    run = find_run(options.ckpt_path, log_folder(options))
    exporting.export(options, load_any(run.checkpoint, options.scaling, torch.device("cpu")))
    return 0


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command."""
    add_scaling(parser)
    exporting.add_options(parser)
