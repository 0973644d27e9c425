"""Second parsing pass: settings of jsonargparse for all parsers, and the commands that need only the data of a training config."""

import glob
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import SUPPRESS, ActionConfigFile, ArgumentParser, set_parsing_settings
from jsonargparse import _typehints as parsing
from jsonargparse._util import NestedArg

from cli.first_pass import CHECKPOINT, TRAINING
from datamodules import AudioDataModule
from harmonicrnn.errors import UserError
from harmonicrnn.old_names import current
from harmonicrnn.parallel import ContextParallelStrategy

NAMES = {ContextParallelStrategy.strategy_name: f"harmonicrnn.parallel.{ContextParallelStrategy.__name__}"}
"""Class of a strategy that Lightning knows by name; the parser needs the class to accept its settings."""

PATHS = {"root", "shards", "init_from", "weights", "cache", "save_dir", "name", "sub_dir"}
"""Settings of classes whose values on the command line are paths or parts of paths, not YAML."""

_resolve, _parse_value = parsing.resolve_class_path_by_name, parsing.parse_value_or_config


def resolve(kind: type | tuple[type, ...], name: str) -> str:
    """Resolve a class name as the parser does, and map former names to current ones; the parser has no other hook for this."""
    return current(_resolve(kind, NAMES.get(name, name)))


def parse_value(value: Any, *args: Any, **kwargs: Any) -> Any:
    """Parse a value as the parser does, but keep paths that are valid YAML, such as `a: b` and `[a]`, as strings."""
    if isinstance(value, NestedArg) and value.key.rpartition(".")[2] in PATHS and value.val != "null":
        return value, None
    return _parse_value(value, *args, **kwargs)


parsing.resolve_class_path_by_name, parsing.parse_value_or_config = resolve, parse_value
# Interpolation such as ${data.init_args.sample_rate} is relative to the top of a config file, below the subcommand.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)


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
