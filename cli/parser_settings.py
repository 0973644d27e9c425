"""Settings of jsonargparse for this project: interpolation in configs, former class names, and settings that are paths, not YAML."""

from typing import Any

from jsonargparse import _typehints as parsing
from jsonargparse import set_parsing_settings
from jsonargparse._util import NestedArg

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
