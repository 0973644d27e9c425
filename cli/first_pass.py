"""First parsing pass of `train.py`: reads only what is needed to find the run whose config gives the defaults of the second pass."""

import glob
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jsonargparse import SUPPRESS, ActionFail, ArgumentParser, Namespace
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harmonicrnn.errors import UserError

BASE = Path(__file__).parents[1] / "configs" / "base.yaml"
LOGS, NAME = "logs", "run"
PLACE = ("trainer.default_root_dir", "trainer.logger.class_path", "trainer.logger.init_args.save_dir", "trainer.logger.init_args.name")
IN_FOLDER = ("TensorBoardLogger", "CSVLogger")
"""Loggers that write to the run's folder."""
CHECKPOINT = "Path of a checkpoint, or best or last of the newest run."
TRAINING = ("trainer", "model", "data", "samples", "fad", "ema", "checkpoint", "seed_everything", "weights_only", "verbose")


class Unchecked(ActionFail):
    """Action that accepts an option and all options below it, such as --data.root, unchecked, as pairs (rest of the name, value)."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not args:  # the parser instantiates the action by a call
            return Unchecked(_message="", **kwargs)
        _, config, value, option = args
        rest = option.removeprefix(f"--{self.dest}").removeprefix(".")
        config[self.dest] = [*config.get(self.dest, []), (rest, value)]
        return None


def add_training_options(parser: ArgumentParser) -> None:
    """Add the options of training, which all commands accept, unchecked as far as the run can be found without them."""
    add = parser.add_argument
    add("-c", "--config", action="append", type=str, default=[], help="Path to the config of a training.")
    add("--ckpt_path", type=str | None, default=None, help=CHECKPOINT)
    add("-h", "--help", action="store_true", help="Show all options and exit.")
    add("--print_config", nargs="?", const="", help="Print the whole configuration and exit.")
    for name in TRAINING:
        add(f"--{name}", action=Unchecked(), nargs="?", help=SUPPRESS)


def log_folder(options: Namespace, defaults: Sequence[str] = ()) -> Path:
    """Return the folder of the runs by the configs and the command line; `logs` if they name none.

    Raises:
        UserError: a config is not YAML.
    """
    told: dict[str, Any] = {}
    for path in (*defaults, *options.config):
        told |= {key.rpartition(".")[2]: value for key, value in keys_of(path, PLACE).items()}
    for option, value in options.get("trainer", []):
        key = "class_path" if option == "logger" else option.removeprefix("logger.").removeprefix("init_args.")
        if key in ("default_root_dir", "class_path", "save_dir", "name"):
            told[key] = value
    return runs_folder(told)


def runs_folder(told: Mapping[str, Any], unnamed: str = "") -> Path:
    """Return the folder that contains the runs `version_N`.

    Args:
        told: `default_root_dir` of the trainer; and `class_path`, `save_dir` and `name` of its only logger, which take precedence if the
            class is one of `IN_FOLDER` or None, as in versions that ignored `default_root_dir`.
        unnamed: name of the folder in `logs` if there is no `default_root_dir`.
    """
    root = told.get("default_root_dir")
    place = Path(LOGS, unnamed) if root is None else Path(os.path.expanduser(root))  # noqa: PTH111 - as Lightning does
    parent, name = (place.parent, place.name) if root or unnamed else (place, "")
    if str(told.get("class_path") or IN_FOLDER[0]).rpartition(".")[2] in IN_FOLDER:
        parent = parent if told.get("save_dir") in (None, LOGS) else Path(told["save_dir"])
        name = name if told.get("name") in (None, "", NAME, "lightning_logs") else told["name"]
    return parent / name


def names_a_module(options: Namespace, configs: Sequence[str]) -> bool:
    """Return whether the command line, one of its config files or one of `configs` names the class of the model."""
    given = any(option in ("", "class_path") for option, _ in options.get("model", []))
    return given or any(keys_of(path, ["model.class_path"]) for path in (*configs, *options.config))


def keys_of(path: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return the values of those `keys` (a.b.c) that a config file has; none if the file is missing, which the parser reports.

    Raises:
        UserError: the file is not YAML.
    """
    try:
        config = OmegaConf.load(path) if Path(path).is_file() else OmegaConf.create()
    except Exception as error:  # any error of the YAML library
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    found = {}
    for key in keys:
        with suppress(OmegaConfBaseException):  # no such section, or not a mapping
            found[key] = OmegaConf.select(config, key)
    return {key: value for key, value in found.items() if value is not None}


def default_configs(*own: Path | str) -> list[str]:
    """Return the default config files as escaped glob patterns: the base, then `own`, which override it."""
    return [glob.escape(str(path)) for path in (BASE, *own)]
