"""Second parsing pass of the commands that need only the data of a training config."""

import glob
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import SUPPRESS, ActionConfigFile, ArgumentParser

import cli.parser_settings  # noqa: F401 - holds for all parsers
from cli.first_pass import CHECKPOINT, TRAINING
from datamodules import AudioDataModule
from harmonicrnn.errors import UserError


def read_data(
    command: str, description: str, add_options: Callable[[ArgumentParser], None], args: Sequence[str], defaults: Sequence[str] = ()
) -> AudioDataModule:
    """Return the data module that a command's arguments and configs describe; `--help` and `--print_config` print and exit.

    Args:
        command, description: name and description of the command.
        add_options: adds the command's own options; options of the data are added too, those of training are accepted and ignored.
        args: command-line arguments after the command.
        defaults: config files with lower priority than the arguments and their configs.

    Raises:
        UserError, ArgumentError: the arguments or configs are invalid, or the data module cannot be created.
    """
    parser = ArgumentParser(
        prog=f"train.py {command}",
        description=description,
        parser_mode="omegaconf+",
        exit_on_error=False,
        allow_abbrev=False,
        default_config_files=[glob.escape(path) for path in defaults],  # the parser treats them as patterns
    )
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="Path to the config of a training.")
    parser.add_argument("--ckpt_path", type=str | None, default=None, help=CHECKPOINT if command == "generate" else SUPPRESS)
    add_options(parser)
    parser.add_subclass_arguments(AudioDataModule, "data", required=True)
    ignored = [key for key in TRAINING if key != "data"]
    for key in ignored:
        parser.add_argument(f"--{key}", type=Any, help=SUPPRESS)
    config = parser.parse_args(list(args))
    for key in ignored:
        config.pop(key, None)
    try:
        data: AudioDataModule = parser.instantiate(config).data
    except ValueError as error:
        raise UserError(str(innermost(error))) from error
    return data


def innermost(error: BaseException) -> BaseException:
    """Return the first error of a chain; jsonargparse wraps errors in less specific ones."""
    while not isinstance(error, UserError) and (cause := error.__cause__ or error.__context__):
        error = cause
    return error
