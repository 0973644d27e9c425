"""What the parser is told of the project: how references in configs count, names of classes beside their paths of today, and which settings
of a dataset are paths, which are no YAML.
"""

from typing import Any

from jsonargparse import _typehints as parsing
from jsonargparse import set_parsing_settings

from harmonicrnn.old_names import current
from harmonicrnn.parallel import ContextParallelStrategy

NAMES = {ContextParallelStrategy.strategy_name: f"harmonicrnn.parallel.{ContextParallelStrategy.__name__}"}
"""Lightning knows the strategy by its name; the parser takes settings of it only after the name of a class."""

PATHS = ("root", "shards")
"""Settings of datasets."""

_resolve = parsing.resolve_class_path_by_name


def resolve(kind: type | tuple[type, ...], name: str) -> str:
    """As the parser's own, which knows no other place to say what a class was called before."""
    return current(_resolve(kind, NAMES.get(name, name)))


parsing.resolve_class_path_by_name = resolve
_parse = parsing.parse_value_or_config


def parse(value: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """As the parser's own, which takes a folder `a: b` for a mapping and `[a]` for a list where it belongs to a class; null stays null."""
    if isinstance(value, parsing.NestedArg) and value.key.rpartition(".")[2] in PATHS and value.val != "null":
        return value, None
    return _parse(value, *args, **kwargs)


parsing.parse_value_or_config = parse
# Interpolation such as ${data.init_args.sample_rate} counts from the top of a config file, below the subcommand.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
