"""Command line of `train.py`: parsing, commands and error messages."""

from cli.command_line import main

__all__ = ["main"]
