"""A program of several commands: what each takes is imported only when it is the one that was given."""

import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from harmonicrnn import __version__
from harmonicrnn.errors import UserError
from harmonicrnn.signals import ended_by_signals


class Command(NamedTuple):
    """A command: what it does, in a line; what adds its options to its parser, importing what they are made of."""

    does: str
    add_options: Callable[[ArgumentParser], None]


class CommandParser(ArgumentParser):
    """A command's parser, whose options are added when it is used."""

    def __init__(self, command: Command, **kwargs: Any) -> None:
        super().__init__(description=command.does, exit_on_error=False, allow_abbrev=False, **kwargs)
        self._add_options = command.add_options

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]  # argparse overloads it
        self._add_options(self)
        return super().parse_args(*args, **kwargs)


def make_program(name: str, description: str, commands: Mapping[str, Command], **kwargs: Any) -> ArgumentParser:
    """The parser of a program; its result holds the name of the command, `subcommand`, and under that name its options.

    Args:
        name, description: of the program.
        commands: by their names.
        kwargs: of the commands' parsers.
    """
    program = ArgumentParser(prog=name, description=description, version=__version__, exit_on_error=False, allow_abbrev=False)
    parsers = program.add_subcommands(title="commands", description=None)
    for each, command in commands.items():
        parsers.add_subcommand(each, CommandParser(command, **kwargs), help=command.does)
    return program


def reporting(work: Callable[[], int], explain: Callable[[BaseException], str | None] = lambda error: None) -> int:
    """The exit status of a program's work: its own, 2 where it is the user's to mend, which is then told on standard error, and 128 and the
    signal's number where one ended it. `explain` says what to tell of a RuntimeError or MemoryError; None for what is no fault of the user.
    """
    with ended_by_signals() as received:
        try:
            return work()
        except (UserError, ArgumentError) as error:
            print(f"error: {brief(error)}", file=sys.stderr)
            return 2
        except (KeyboardInterrupt, SystemExit):  # Lightning makes the second out of the first
            if not received:
                raise
            print(f"ended by {signal.Signals(received[0]).name}", file=sys.stderr)
            return 128 + received[0]
        except (RuntimeError, MemoryError) as error:
            if (told := explain(error)) is None:
                raise
            print(f"error: {told}", file=sys.stderr)
            return 2


def brief(error: Exception) -> str:
    """An error in one line: of jsonargparse's lists of all types that a value might have had, what concerns the user's."""
    noise = ["Does not validate against any", "Subtypes:", "Errors:", "Given value type:"]
    if "Got value:" in str(error):
        noise.append("Given value:")  # is said already
    lines = [line.strip().removeprefix("- ") for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(tuple(noise)) and "NoneType" not in line)
