"""What the parser is told of the project: how references in configs count, names of classes beside their paths of today, and which settings
of a dataset are paths, which are no YAML.
"""

from typing import Any

from jsonargparse import _typehints as parsing
from jsonargparse import set_parsing_settings
from jsonargparse._util import NestedArg

from harmonicrnn.old_names import current
from harmonicrnn.parallel import ContextParallelStrategy

NAMES = {ContextParallelStrategy.strategy_name: f"harmonicrnn.parallel.{ContextParallelStrategy.__name__}"}
"""Lightning knows the strategy by its name; the parser takes settings of it only after the name of a class."""

PATHS = {"root", "shards", "init_from", "weights", "cache", "save_dir", "name", "sub_dir"}
"""Settings below a class whose values on the command line are paths, or parts of them, and no YAML."""

_resolve, _parse_value = parsing.resolve_class_path_by_name, parsing.parse_value_or_config


def resolve(kind: type | tuple[type, ...], name: str) -> str:
    """As the parser's own, which knows no other place to say what a class was called before."""
    return current(_resolve(kind, NAMES.get(name, name)))


def parse_value(value: Any, *args: Any, **kwargs: Any) -> Any:
    """As the parser's own, but a path that would be YAML, such as `a: b` and `[a]`, is a path."""
    if isinstance(value, NestedArg) and value.key.rpartition(".")[2] in PATHS and value.val != "null":
        return value, None
    return _parse_value(value, *args, **kwargs)


parsing.resolve_class_path_by_name, parsing.parse_value_or_config = resolve, parse_value
# Interpolation such as ${data.init_args.sample_rate} counts from the top of a config file, below the subcommand.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
