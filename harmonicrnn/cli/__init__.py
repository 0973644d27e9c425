"""The command line of the library: `harmonicrnn generate`, `serve`, `nll`, `export` and `predictors`."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace

from harmonicrnn.cli.program import Command, make_program, reporting

if TYPE_CHECKING:
    from harmonicrnn.voice import Voice

__all__ = ["main"]

FILES = "Recordings: WAV, FLAC and other audio files."


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line, by default with the arguments of the process, and returns the exit status."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded, as in train.py
    return reporting(lambda: _run(args))


def _run(args: Sequence[str] | None) -> int:
    works: dict[str, Callable[[Namespace], None]] = {"generate": generate, "nll": nll, "export": export, "serve": serve}
    works["predictors"] = predictors
    commands = {
        "generate": Command("Draw audio from a trained model.", _options_of_generate),
        "nll": Command("Print the bits per sample of recordings under a model.", _options_of_nll),
        "export": Command("Export a trained model as a voice, a folder to publish.", _options_of_export),
        "serve": Command("Serve a local web page that plays models as they draw.", _options_of_serve),
        "predictors": Command("Print the bits per sample of recordings under predictors without training.", _options_of_predictors),
    }
    given = make_program("harmonicrnn", "Draw from trained models of raw audio, and measure them.", commands).parse_args(args)
    works[given.subcommand](given[given.subcommand])
    return 0


def generate(options: Namespace) -> None:
    """Draws clips from a run's model or a voice into a folder with a manifest, or one clip into standard output.

    Raises:
        UserError: the options, the run, the prompt or the disk cannot be used.
    """
    from harmonicrnn.cli.generating import begin, device_of, draw, file_prompt
    from harmonicrnn.errors import UserError
    from harmonicrnn.generation.detectors import Reference
    from harmonicrnn.runs import run_at
    from harmonicrnn.voice import load

    if (options.run is None) == (options.voice is None):
        raise UserError("give one model: a run's folder or checkpoint, or --voice NAME_OR_FOLDER")
    run = run_at(options.run or options.voice)
    settings = begin(options)
    voice = load(run.checkpoint, options.scaling, device_of(options.device))
    prompt = file_prompt(options, voice)
    draw(
        options,
        settings,
        run,
        voice,
        prompt,
        lambda: (None if run.is_voice else Reference.read(run.folder)) or Reference.defaults(voice.quantiser),
    )


def nll(options: Namespace) -> None:
    """Prints the bits per sample of recordings, one line each, and the protocol on standard error.

    Raises:
        UserError: the run or a recording cannot be used.
    """
    import sys

    from harmonicrnn.cli.generating import device_of
    from harmonicrnn.runs import run_at
    from harmonicrnn.voice import load

    voice = load(run_at(options.run).checkpoint, options.scaling, device_of(options.device))
    print(protocol(voice), file=sys.stderr)
    for path in options.files:
        print(f"{voice.nll(path)!r}\t{path}", flush=True)


def export(options: Namespace) -> None:
    """Exports a run's model as a voice folder.

    Raises:
        UserError: the options, the run or the disk cannot be used.
    """
    from harmonicrnn.cli import exporting
    from harmonicrnn.voice import load

    exporting.check_out(options)
    exporting.export(options, load(options.run, options.scaling))


def serve(options: Namespace) -> None:
    """Serves the live page until Ctrl-C.

    Raises:
        UserError: an option or a voice cannot be used.
    """
    from harmonicrnn.cli import serving

    serving.serve(options)


def predictors(options: Namespace) -> None:
    """Prints the bits per sample of recordings under untrained predictors, one line each, and the protocol on standard error.

    Raises:
        UserError: an option or a recording cannot be used.
    """
    import sys

    from harmonicrnn.cli.predicting import RecordingPredictors

    untrained = RecordingPredictors(options.bits, options.law, options.sample_rate, options.scaling)
    print(untrained.protocol, file=sys.stderr)
    for path in options.files:
        print("\t".join([*map(repr, untrained.bits_per_sample(path)), str(path)]), flush=True)


def protocol(voice: "Voice") -> str:
    """Returns a line on how `nll` measures likelihoods."""
    quantiser = voice.quantiser
    return (
        f"Exact -log2 p in bits/sample, each sample given all before it in its file, of {quantiser.bits}-bit {quantiser.law} at "
        f"{voice.sample_rate} Hz, mono, scaling {voice.scaling}, by {voice.checkpoint}"
    )


def _options_of_generate(parser: ArgumentParser) -> None:
    from harmonicrnn.cli.generating import add_options

    _add_run(parser, needed=False)
    named = "A voice instead of a run: its folder, or the name of one that comes with the library."
    parser.add_argument("--voice", type=Path | None, help=named)
    add_options(parser)


def _options_of_export(parser: ArgumentParser) -> None:
    from harmonicrnn.cli.exporting import add_options

    _add_run(parser)
    add_options(parser)


def _options_of_serve(parser: ArgumentParser) -> None:
    from harmonicrnn.cli.serving import add_options

    add_options(parser)


def _options_of_nll(parser: ArgumentParser) -> None:
    from harmonicrnn.cli.generating import add_device

    _add_run(parser)
    parser.add_argument("files", nargs="+", type=Path, help=FILES)
    add_device(parser)


def _options_of_predictors(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("files", nargs="+", type=Path, help=FILES)
    add("--bits", type=int, default=8, help="Bits per sample; 2^bits classes.")
    add("--law", type=Literal["mu-law", "linear"], default="mu-law", help="Spacing of the classes.")
    add("--sample_rate", type=int, default=16_000, help="Rate in Hz to which recordings are resampled.")
    scaled = "Range that is mapped to full scale before quantising."
    add("--scaling", type=Literal["clip", "file", "peak", "none"], default="peak", help=scaled)


def _add_run(parser: ArgumentParser, needed: bool = True) -> None:
    run = "A run's folder (its best checkpoint), a checkpoint, or a voice."
    parser.add_argument("run", type=Path if needed else Path | None, nargs=None if needed else "?", help=run)
    add_scaling(parser)


def add_scaling(parser: ArgumentParser) -> None:
    """What samples are scaled by, where the run does not say it."""
    scaled = "What samples are scaled by before they become classes; null for what the run's config.yaml says."
    parser.add_argument("--scaling", type=Literal["clip", "file", "peak", "none"] | None, default=None, help=scaled)
