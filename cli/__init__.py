"""The command line: which commands there are, where runs lie, and what the user is told when something is wrong."""

from cli.command_line import main

__all__ = ["main"]
