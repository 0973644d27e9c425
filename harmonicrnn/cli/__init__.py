"""The command line of the library: `harmonicrnn generate`, `stream`, `nll`, `export`, `serve` and `predictors`."""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from jsonargparse import ArgumentParser

from harmonicrnn.cli.program import make_program, reporting

__all__ = ["main"]

COMMANDS = {
    "generate": "Draw audio from a trained model.",
    "stream": "Play a trained model as it draws, without end.",
    "nll": "Print the bits per sample of recordings under a model.",
    "export": "Export a trained model as a voice, a folder to publish.",
    "serve": "Serve a local web page that plays models as they draw.",
    "predictors": "Print the bits per sample of recordings under predictors without training.",
}


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line, by default with the arguments of the process, and returns the exit status."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded, as in train.py
    return reporting(lambda: _run(args))


def _run(args: Sequence[str] | None) -> int:
    program = make_program("harmonicrnn", "Draw from trained models of raw audio, and measure them.", COMMANDS, _add_options)
    given = program.parse_args(args)
    _imported(given.subcommand)(given[given.subcommand])
    return 0


def _add_options(command: str, parser: ArgumentParser) -> None:
    _imported(f"add_{command}_options")(parser)


def _imported(function: str) -> Any:
    return getattr(import_module("harmonicrnn.cli.library_commands"), function)
