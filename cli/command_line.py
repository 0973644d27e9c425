"""The commands of train.py, and what is told to the user where something goes wrong."""

import sys
from collections.abc import Callable, Sequence

from jsonargparse import ArgumentParser, Namespace
from omegaconf.errors import OmegaConfBaseException

from cli.first_pass import add_training_options, keys_of
from harmonicrnn.cli.program import Command, make_program, reporting
from harmonicrnn.errors import UserError

COMMANDS = {
    "fit": "Train a model, or go on with its training.",
    "validate": "Likelihood of the validation split.",
    "test": "Likelihood of the test split.",
    "prepare": "Read and check recordings ahead of training.",
    "predictors": "Likelihood of a split without any training.",
    "generate": "Draw audio from a trained model.",
    "evaluate": "Measure and compare models and folders.",
    "export": "Make a folder to hand on of a trained model.",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the program, and return the exit status."""
    given = sys.argv[1:] if args is None else list(args)
    return reporting(lambda: run(given), explain)


def run(args: Sequence[str]) -> int:
    """Read the arguments for the first time, and do what they say.

    Raises:
        UserError, ArgumentError: something is wrong with them, or with what they name.
    """
    commands = {name: Command(does, adding(name)) for name, does in COMMANDS.items()}
    # Help with a command is for the second pass, which knows all options.
    program = make_program("train.py", "HarmonicRNN on raw audio: training, samples and measurements.", commands, add_help=False)
    given = program.parse_args(args)
    command, options = given.subcommand, given[given.subcommand]
    for path in options.config:
        keys_of(path, [])  # says which file is not YAML, which the parser does not
    try:
        return work_of(command)(command, options, args[1:])
    except OmegaConfBaseException as error:
        told = f"{getattr(error, 'full_key', None) or 'a setting'}: {str(error).splitlines()[0]}"
        raise UserError(f"{told}: ${{...}} in a setting stands for another setting: reach a folder of such a name by a link") from error


def adding(command: str) -> Callable[[ArgumentParser], None]:
    """What adds the options of a command for the first pass."""

    def add(parser: ArgumentParser) -> None:
        add_training_options(parser)
        if command == "prepare":
            from cli.prepare_command import add_options
        elif command == "predictors":
            from cli.predictors_command import add_options
        elif command == "generate":
            from cli.generate_command import add_options
        elif command == "evaluate":
            from cli.evaluate_command import add_options
        elif command == "export":
            from harmonicrnn.cli.exporting import add_options
        else:
            return
        add_options(parser)

    return add


def work_of(command: str) -> Callable[[str, Namespace, Sequence[str]], int]:
    """What does the work of a command, given its name, its options as the first pass read them, and its arguments."""
    if command == "prepare":
        from cli.prepare_command import prepare as work
    elif command == "predictors":
        from cli.predictors_command import predictors as work
    elif command == "generate":
        from cli.generate_command import generate as work
    elif command == "evaluate":
        from cli.evaluate_command import evaluate as work
    elif command == "export":
        from cli.export_command import export as work
    else:
        from cli.training_cli import train as work
    return work


def explain(error: BaseException) -> str | None:
    """What to tell of a machine that gave out; None of any other error."""
    from cli.out_of_memory import shortage

    return shortage(error)
