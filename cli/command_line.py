"""Entry point of the command line of `train.py`: its commands and the handling of errors."""

import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from jsonargparse import ArgumentParser, Namespace
from omegaconf.errors import OmegaConfBaseException

from cli.first_pass import TRAINING, add_training_options, keys_of
from harmonicrnn.cli.program import make_program, reporting
from harmonicrnn.errors import UserError

COMMANDS = {
    "fit": "Train a model, or resume training.",
    "validate": "Measure the likelihood of the validation split.",
    "test": "Measure the likelihood of the test split.",
    "prepare": "Read and check recordings before training.",
    "predictors": "Measure the likelihood of a split without training.",
    "generate": "Draw audio from a trained model.",
    "evaluate": "Measure and compare models and folders.",
    "export": "Export a trained model as a voice, a folder to share.",
}
BY_TRAINER = ("fit", "validate", "test")
OF_NO_CHECKPOINT = {
    "evaluate": "evaluate takes checkpoints as arguments, without the option's name",
    "prepare": "prepare reads recordings alone: leave it out",
    "predictors": "predictors measures without a model: leave it out",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the program, and return the exit status."""
    given = sys.argv[1:] if args is None else list(args)
    return reporting(lambda: run(given), explain)


def run(args: Sequence[str]) -> int:
    """Parse the arguments in the first pass and run the command.

    Raises:
        UserError, ArgumentError: the arguments, or the files that they name, are invalid.
    """
    # The second pass, which knows all options, prints a command's help.
    program = make_program(
        "train.py", "HarmonicRNN on raw audio: training, samples and measurements.", COMMANDS, add_options, add_help=False
    )
    given = program.parse_args(args)
    command, options = given.subcommand, given[given.subcommand]
    for path in options.config:
        keys_of(path, [])  # names a file that is not YAML; the parser does not
    check_typed(command, options)
    module, name = ("training_cli", "train") if command in BY_TRAINER else (f"{command}_command", command)
    work: Callable[[str, Namespace, Sequence[str]], int] = getattr(import_module(f"cli.{module}"), name)
    try:
        return work(command, options, args[1:])
    except OmegaConfBaseException as error:
        told = f"{getattr(error, 'full_key', None) or 'a setting'}: {str(error).splitlines()[0]}"
        raise UserError(f"{told}: ${{...}} in a setting stands for another setting; use a link to a folder with such a name") from error


def check_typed(command: str, options: Namespace) -> None:
    """Raise UserError for an option on the command line, not in a config, that the command would ignore."""
    if options.ckpt_path is not None and command in OF_NO_CHECKPOINT:
        raise UserError(f"--ckpt_path: {OF_NO_CHECKPOINT[command]}")
    if command in BY_TRAINER:
        return
    if command == "export" and ("data" in options or options.print_config is not None):
        name = "data" if "data" in options else "print_config"
        raise UserError(f"--{name}: export reads no data, and the run's config gives its scaling, or --scaling: leave it out")
    for key in TRAINING:
        for rest, _ in options.get(key, []):
            finds_the_run = key == "trainer" and rest.split(".")[0] in ("default_root_dir", "logger")
            if key != "data" and not finds_the_run:
                name = f"{key}.{rest}".rstrip(".")
                raise UserError(f"--{name}: is a setting of training, which {command} does not obey: leave it out")


def add_options(command: str, parser: ArgumentParser) -> None:
    """Add a command's options for the first pass."""
    add_training_options(parser)
    if command not in BY_TRAINER:
        import_module(f"cli.{command}_command").add_options(parser)


def explain(error: BaseException) -> str | None:
    """Return a message if memory ran out, or a data process or another rank ended; None for other errors."""
    import torch

    from harmonicrnn.parallel.faults import is_exchange_error

    if is_exchange_error(error):
        return "another rank, most likely rank 0, ended or cannot be reached: see what it printed"

    if re.search(r"DataLoader worker .*(killed by signal|exited unexpectedly)", str(error)):
        return (
            "a process that reads the data was killed, possibly by the system for lack of memory; resume with --ckpt_path last and fewer "
            "data.num_workers"
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error):
        return (
            "memory ran out: use shorter clips (data.clip_samples), a smaller batch (data.batch_size), recompute: true in model.levels, "
            "or more devices"
        )
    return None
