"""The second pass over the command lines of prepare, generate and evaluate: the data, with the config of a training below their options."""

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
    """The data that a command's arguments and configs name; where they ask for help or the configuration, it is printed and all ends.

    Args:
        command, description: its name, and what it does.
        add_options: adds its options beside those of the data and of training, the latter of which are left unread.
        args: after the command.
        defaults: config files whose settings count where the arguments and their configs give none.

    Raises:
        UserError, ArgumentError: there is something wrong with them, or the data cannot be made.
    """
    parser = ArgumentParser(
        prog=f"train.py {command}",
        description=description,
        parser_mode="omegaconf+",
        exit_on_error=False,
        allow_abbrev=False,
        default_config_files=[glob.escape(path) for path in defaults],  # the parser takes them for patterns
    )
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="Path to the config of a training.")
    parser.add_argument("--ckpt_path", type=str | None, default=None, help=CHECKPOINT if command == "generate" else SUPPRESS)
    add_options(parser)
    parser.add_subclass_arguments(AudioDataModule, "data", required=True)
    for key in TRAINING:
        if key != "data":
            parser.add_argument(f"--{key}", type=Any, help=SUPPRESS)
    config = parser.parse_args(list(args))
    for key in TRAINING:
        if key != "data":
            config.pop(key, None)
    try:
        data: AudioDataModule = parser.instantiate(config).data
    except ValueError as error:
        raise UserError(str(innermost(error))) from error
    return data


def innermost(error: BaseException) -> BaseException:
    """What was first raised: jsonargparse puts errors of its own around it that do not say what is wrong."""
    while not isinstance(error, UserError) and (cause := error.__cause__ or error.__context__):
        error = cause
    return error
