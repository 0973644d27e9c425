"""A command-line program with subcommands that import their dependencies only when used."""

import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from harmonicrnn import __version__
from harmonicrnn.errors import UserError
from harmonicrnn.signals import ended_by_signals


class CommandParser(ArgumentParser):
    """A subcommand's parser that adds its options on first use."""

    def __init__(self, add_options: Callable[[ArgumentParser], None], **kwargs: Any) -> None:
        super().__init__(exit_on_error=False, allow_abbrev=False, **kwargs)
        self._add_options = add_options

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]  # argparse overloads it
        self._add_options(self)
        return super().parse_args(*args, **kwargs)


def make_program(
    name: str, description: str, commands: Mapping[str, str], add_options: Callable[[str, ArgumentParser], None], **kwargs: Any
) -> ArgumentParser:
    """Returns the program's parser; its result has the command's name, `subcommand`, and under that name its options.

    Args:
        name, description: for the help of the program.
        commands: help lines of the subcommands by name.
        add_options: adds the options of the named subcommand to its parser, importing what they need.
        kwargs: arguments of the subcommands' parsers.
    """
    program = ArgumentParser(prog=name, description=description, version=__version__, exit_on_error=False, allow_abbrev=False)
    parsers = program.add_subcommands(title="commands", description=None)
    for command, does in commands.items():
        parsers.add_subcommand(command, CommandParser(partial(add_options, command), description=does, **kwargs), help=does)
    return program


def reporting(work: Callable[[], int], explain: Callable[[BaseException], str | None] = lambda error: None) -> int:
    """Runs a program and returns its exit status: that of `work`, 2 after an error of the user, which is printed to standard error, or
    128 + the signal's number. `explain` returns the message for a RuntimeError or MemoryError; None to raise it.
    """
    with ended_by_signals() as received:
        try:
            return work()
        except BaseException as error:
            told = brief(error) if isinstance(error, UserError | ArgumentError) else None
            if received:  # libraries turn its KeyboardInterrupt into errors of theirs
                if told:
                    print(f"error: {told}", file=sys.stderr)
                print(f"ended by {signal.Signals(received[0]).name}", file=sys.stderr)
                return 128 + received[0]
            if told is None and isinstance(error, RuntimeError | MemoryError):
                told = explain(error)
            if told is None:
                raise
            print(f"error: {told}", file=sys.stderr)
            return 2


def brief(error: Exception) -> str:
    """Shortens an error to one line, without jsonargparse's lists of types that did not match."""
    noise = ["Does not validate against any", "Subtypes:", "Errors:", "Given value type:"]
    if "Got value:" in str(error):
        noise.append("Given value:")  # already in the message
    lines = [line.strip().removeprefix("- ") for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(tuple(noise)) and "NoneType" not in line)
