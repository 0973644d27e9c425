"""The settings below those that the user gives: `configs/base.yaml`, and over it a run's own."""

import glob
from pathlib import Path

BASE = Path(__file__).parents[1] / "configs" / "base.yaml"


def default_configs(*own: Path | str) -> list[str]:
    """Config files as the parser takes its defaults, as patterns for names, the later ones over those before them: the base, then `own`."""
    return [glob.escape(str(path)) for path in (BASE, *own)]
