"""`python train.py export`: a run's model as a voice, a folder that can be handed on."""

from collections.abc import Sequence

import torch
from jsonargparse import ArgumentParser, Namespace

from cli.first_pass import CHECKPOINT, log_folder
from cli.generate_command import load_any
from harmonicrnn.cli import exporting
from harmonicrnn.runs import find_run

DESCRIPTION = "A voice, which is a folder to hand on, of a run's model: the newest run's best checkpoint, unless others are named."


def export(command: str, options: Namespace, args: Sequence[str]) -> int:
    """Make a voice's folder of a run's checkpoint.

    Args:
        command: its name.
        options: as the first pass read them.
        args: of the command line, after the command.

    Raises:
        UserError: something is wrong with the options, the run or the disk.
    """
    if options.help:
        parser = ArgumentParser(prog=f"train.py {command}", description=DESCRIPTION)
        parser.add_argument("-c", "--config", type=str, help="Path to the config of a training.")
        parser.add_argument("--ckpt_path", type=str | None, help=CHECKPOINT)
        exporting.add_options(parser)
        parser.parse_args(["--help"])
    exporting.check_out(options)
    exporting.export(options, load_any(find_run(options.ckpt_path, log_folder(options)).checkpoint, None, torch.device("cpu")))
    return 0
