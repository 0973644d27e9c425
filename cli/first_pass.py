"""The first of two passes over a command line: whose config the defaults of the second come from, which checks what is given."""

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
"""Loggers whose files lie in the run's folder."""
CHECKPOINT = "A checkpoint, or best or last of the newest run."
TRAINING = ("trainer", "model", "data", "samples", "fad", "ema", "checkpoint", "seed_everything", "weights_only", "verbose")


class Unchecked(ActionFail):
    """Takes an option and all below it, such as --data.root, as they are: a list of pairs, of the rest of the name and the value."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not args:  # the parser makes the action out of this one
            return Unchecked(_message="", **kwargs)
        _, config, value, option = args
        rest = option.removeprefix(f"--{self.dest}").removeprefix(".")
        config[self.dest] = [*config.get(self.dest, []), (rest, value)]
        return None


def add_training_options(parser: ArgumentParser) -> None:
    """Those of trainings, which all commands take, as their configs do: as much of them as it takes to find the run that is meant."""
    add = parser.add_argument
    add("-c", "--config", action="append", type=str, default=[], help="Path to the config of a training.")
    add("--ckpt_path", type=str | None, default=None, help=CHECKPOINT)
    add("-h", "--help", action="store_true", help="Show all options and exit.")
    add("--print_config", nargs="?", const="", help="Print the whole configuration and exit.")
    for name in TRAINING:
        add(f"--{name}", action=Unchecked(), nargs="?", help=SUPPRESS)


def log_folder(options: Namespace, defaults: Sequence[str] = ()) -> Path:
    """Where the runs of the given configs lie, `logs` where they name none; as given on the command line.

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
    """Where runs `version_N` lie by settings of the trainer: its `default_root_dir`, `logs/unnamed` where there is none; or, as before it
    was looked at, `save_dir` and `name` of its one logger, if its `class_path` is one of `IN_FOLDER` (None is)."""
    root = told.get("default_root_dir")
    place = Path(LOGS, unnamed) if root is None else Path(os.path.expanduser(root))  # noqa: PTH111 - as Lightning does
    parent, name = (place.parent, place.name) if root or unnamed else (place, "")
    if str(told.get("class_path") or IN_FOLDER[0]).rpartition(".")[2] in IN_FOLDER:
        parent = parent if told.get("save_dir") in (None, LOGS) else Path(told["save_dir"])
        name = name if told.get("name") in (None, "", NAME, "lightning_logs") else told["name"]
    return parent / name


def names_a_module(options: Namespace, configs: Sequence[str]) -> bool:
    """Whether the command line, a config file that it gives or one of `configs` names the class of the model."""
    given = any(option in ("", "class_path") for option, _ in options.get("model", []))
    return given or any(keys_of(path, ["model.class_path"]) for path in (*configs, *options.config))


def keys_of(path: str, keys: Sequence[str]) -> dict[str, Any]:
    """Those of the keys (a.b.c) that a config file has; none of one that is not there, which is the parser's to say.

    Raises:
        UserError: it is not YAML.
    """
    try:
        config = OmegaConf.load(path) if Path(path).is_file() else OmegaConf.create()
    except Exception as error:  # whatever the YAML library finds wrong
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    found = {}
    for key in keys:
        with suppress(OmegaConfBaseException):  # no such section, or one that holds no mapping
            found[key] = OmegaConf.select(config, key)
    return {key: value for key, value in found.items() if value is not None}


def default_configs(*own: Path | str) -> list[str]:
    """Config files as the parser takes its defaults, as patterns for names, the later ones over those before them: the base, then `own`."""
    return [glob.escape(str(path)) for path in (BASE, *own)]
