"""The first of two passes over a command line: whose config the defaults of the second come from, which checks what is given."""

import glob
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jsonargparse import SUPPRESS, ActionFail, ArgumentParser, Namespace
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harmonicrnn.errors import UserError

BASE = Path(__file__).parents[1] / "configs" / "base.yaml"
LOGS, LOGGER = "logs", "trainer.logger.init_args."
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
    """Where the runs of the given configs lie: the folder of their logger, `logs` where they name none; as given on the command line.

    Raises:
        UserError: a config is not YAML.
    """
    place = {"save_dir": LOGS, "name": ""}
    for path in (*defaults, *options.config):
        found = keys_of(path, [LOGGER + key for key in place])
        place = {key: found.get(LOGGER + key, value) for key, value in place.items()}
    for option, value in options.get("trainer", []):
        key = option.replace(".init_args.", ".").removeprefix("logger.")
        if key in place:
            place[key] = value
    return Path(place["save_dir"]) / place["name"]


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
