"""The commands of `harmonicrnn`: for each a function that runs it, and one that adds its options to a parser."""

import math
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from harmonicrnn.audio import Quantiser, Scaling
from harmonicrnn.audio.quantise import Law
from harmonicrnn.cli.generating import add_device, add_options, begin, device_of, draw, file_prompt
from harmonicrnn.cli.playing import check_not_a_terminal, playing, sound_device, standard_output
from harmonicrnn.errors import UserError, check_bits, check_whole
from harmonicrnn.files import pasteable
from harmonicrnn.generation.detectors import Reference
from harmonicrnn.generation.engine import PlainEngine
from harmonicrnn.generation.prompts import classes_of, conversion
from harmonicrnn.models.predictors_alone import FILTERS, PredictorsAlone
from harmonicrnn.runs import WEIGHTS, Run, run_at
from harmonicrnn.voice import Voice, bits_per_sample, load
from harmonicrnn.voice_folder import MOST_CLIPS, check_free

PORT = 8420


def generate(options: Namespace) -> None:
    """Draws clips from a run's model or a voice into a folder with a manifest, or one clip into standard output.

    Raises:
        UserError: the options, the run, the prompt or the disk cannot be used.
    """
    run = _one_model(options)
    settings = begin(options)
    voice = load(run.checkpoint, options.scaling, device_of(options.device))

    def reference() -> Reference:
        return (None if run.is_voice else Reference.read(run.folder)) or Reference.defaults(voice.quantiser)

    draw(options, settings, run, voice, file_prompt(options, voice), reference)


def add_generate_options(parser: ArgumentParser) -> None:
    """Adds the options of `generate`."""
    _add_model(parser)
    add_options(parser)


def stream(options: Namespace) -> None:
    """Plays what a run's model or a voice draws, or writes it to standard output, until Ctrl-C.

    Raises:
        UserError: the options, the run, the prompt or the device cannot be used.
    """
    run = _one_model(options)
    if options.stdout:
        check_not_a_terminal()
    else:
        sound_device()
    voice, prompt = load(run.checkpoint, options.scaling, device_of(options.device)), options.prompt
    if prompt is not None and prompt.is_file() and (notice := conversion(prompt, voice.sample_rate)):
        print(notice, file=sys.stderr)
    blocks = voice.stream(options.prompt, seconds=options.seconds, seed=options.seed, temperature=options.temperature, top_p=options.top_p)
    with blocks, standard_output() if options.stdout else playing(voice.sample_rate) as hear:
        print(f"{voice.sample_rate} Hz, mono; Ctrl-C ends it", file=sys.stderr, flush=True)
        for block in blocks:
            hear(block)


def add_stream_options(parser: ArgumentParser) -> None:
    """Adds the options of `stream`."""
    _add_model(parser)
    add = parser.add_argument
    add("--prompt", type=Path | None, help="An audio file to continue.")
    add("--seconds", type=float | None, help="Length; null for no end.")
    add("--seed", type=int, default=0, help="Gives the same audio as `generate` with the same seed.")
    add("--temperature", type=float | None, help="Divides the logits; null for the voice's own, 1 by default.")
    add("--top_p", type=float, default=1.0, help="Draws only from the most likely classes, up to this cumulative probability.")
    add("--stdout", action="store_true", help="Write raw 16-bit little-endian samples to standard output instead of playing.")
    add_device(parser)


def nll(options: Namespace) -> None:
    """Prints the bits per sample of recordings, one line each, and the protocol on standard error.

    Raises:
        UserError: the run or a recording cannot be used.
    """
    voice = load(run_at(options.run).checkpoint, options.scaling, device_of(options.device))
    _print_protocol(voice.quantiser, voice.sample_rate, voice.scaling, [voice.checkpoint])
    for path in options.files:
        print(f"{voice.nll(path)!r}\t{path}", flush=True)


def add_nll_options(parser: ArgumentParser) -> None:
    """Adds the options of `nll`."""
    _add_run(parser)
    _add_files(parser)
    add_device(parser)


def predictors(options: Namespace) -> None:
    """Prints the bits per sample of recordings under untrained predictors, one line each, and the protocol on standard error.

    Raises:
        UserError: an option or a recording cannot be used.
    """
    check_bits("--bits", options.bits)
    check_whole("--sample_rate", options.sample_rate, 1)
    quantiser, nets = Quantiser(options.bits, options.law), [PredictorsAlone(options.bits, each) for each in FILTERS.values()]
    for net in nets:
        net.set_cells(*quantiser.cells())
    _print_protocol(quantiser, options.sample_rate, options.scaling, FILTERS)
    for path in options.files:
        classes = classes_of(path, None, quantiser, options.sample_rate, options.scaling)
        print("\t".join([*(repr(bits_per_sample(net, classes)) for net in nets), str(path)]), flush=True)


def add_predictors_options(parser: ArgumentParser) -> None:
    """Adds the options of `predictors`."""
    _add_files(parser)
    add = parser.add_argument
    add("--bits", type=int, default=8, help="Bits per sample; 2^bits classes.")
    add("--law", type=Law, default="mu-law", help="Spacing of the classes.")
    add("--sample_rate", type=int, default=16_000, help="Rate in Hz to which recordings are resampled.")
    add("--scaling", type=Scaling, default="peak", help="Range that is mapped to full scale before quantising.")


def export(options: Namespace) -> None:
    """Exports a run's model as a voice folder.

    Raises:
        UserError: the options, the run or the disk cannot be used.
    """
    export_voice(options, lambda: load(options.run, options.scaling))


def export_voice(options: Namespace, load_model: Callable[[], Voice]) -> None:
    """Writes a voice folder and prints its path.

    Raises:
        UserError: an option or the model cannot be used, or the folder is in use or cannot be written.
    """
    if options.out is None:
        raise UserError("--out is missing: name a folder to make for the voice")
    if not 0 <= options.seconds < math.inf:
        raise UserError(f"--seconds must be 0 or more, got {options.seconds}")
    check_free(options.out)
    voice, sources = load_model(), None
    if options.sources is not None:
        try:
            sources = options.sources.read_text().strip()
        except (OSError, ValueError) as error:
            raise UserError(f"--sources {options.sources}: cannot be read as text: {error}") from error
    draws = options.seconds > 0 and not options.clips and voice.checkpoint.name != WEIGHTS and _is_fast(voice)
    if draws:
        print(f"Drawing {MOST_CLIPS} clips of {options.seconds:g} s (--seconds 0 draws none)", file=sys.stderr, flush=True)
    voice.save(
        options.out,
        license=options.license,
        sources=sources,
        clips=options.clips,
        temperature=options.temperature,
        seconds=options.seconds if draws else 0,
    )
    print(f"Written to {pasteable(options.out)}")


def _is_fast(voice: Voice) -> bool:
    """Returns whether a model is drawn by compiled code; else drawing clips could take hours, and a line says that they are left out."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fast = not isinstance(voice.engine(), PlainEngine)
    if not fast:
        print(f"No clips are drawn (--clips takes some): {'; '.join(str(each.message) for each in told)}", file=sys.stderr)
    return fast


def add_export_options(parser: ArgumentParser, run: bool = True) -> None:
    """Adds the options of `export`, with the argument `run` or without."""
    if run:
        _add_run(parser)
    else:
        _add_scaling(parser)
    add = parser.add_argument
    add("--out", type=Path | None, help="Folder to make for the voice.")
    add("--license", type=str | None, help="The Hub's identifier of the weights' licence, such as cc-by-sa-3.0; null for unknown.")
    add("--sources", type=Path | None, help="A text file on the training recordings and their licences, for the card.")
    add("--temperature", type=float | None, help="Default sampling temperature; null for 1.")
    add(
        "--clips",
        type=Path,
        nargs="*",
        default=[],
        help="Up to four clips drawn from it, WAV or FLAC; without, four are drawn from a run's model.",
    )
    add("--seconds", type=float, default=10.0, help="Length of the clips that are drawn; 0 for none.")


def serve(options: Namespace) -> None:
    """Serves the live page until Ctrl-C.

    Raises:
        UserError: tornado is missing, the port is not available, or a voice cannot be used.
    """
    try:
        from harmonicrnn.live.application import ADDRESS, bind, serve_until_signal
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("tornado"):
            raise
        raise UserError("serve needs tornado: pip install .[serve] (or pip install tornado)") from error
    sockets, device = bind(options.port), device_of(options.device)
    voices = {str(path): load(run_at(path).checkpoint, device=device) for path in options.voice}
    print("Getting ready (the first time takes some seconds)", flush=True)
    for voice in voices.values():
        with voice.stream() as stream:
            next(stream)
    address = f"http://{ADDRESS}:{sockets[0].getsockname()[1]}/"
    serve_until_signal(voices, sockets, lambda: print(f"Listen at {address} (Ctrl-C ends it)", flush=True))


def add_serve_options(parser: ArgumentParser) -> None:
    """Adds the options of `serve`."""
    voices = "Voices to choose from: their folders, names of those that come with the library, or folders of runs."
    parser.add_argument("--voice", type=Path, nargs="+", required=True, help=voices)
    parser.add_argument("--port", type=int, default=PORT, help="Port on this machine's address 127.0.0.1; 0 for any free port.")
    add_device(parser)


def _print_protocol(quantiser: Quantiser, sample_rate: int, scaling: Scaling | None, models: Iterable[object]) -> None:
    """Prints how `nll` and `predictors` measure likelihoods, to standard error."""
    print(
        f"Exact -log2 p in bits/sample, each sample given all before it in its file, of {quantiser.bits}-bit {quantiser.law} at "
        f"{sample_rate} Hz, mono, scaling {scaling}, by {', '.join(map(str, models))}",
        file=sys.stderr,
    )


def _one_model(options: Namespace) -> Run:
    """Returns the run or voice that the options name; raises UserError unless they name one."""
    if (options.run is None) == (options.voice is None):
        raise UserError("give one model: a run's folder or checkpoint, or --voice NAME_OR_FOLDER")
    return run_at(options.run or options.voice)


def _add_model(parser: ArgumentParser) -> None:
    _add_run(parser, needed=False)
    named = "A voice instead of a run: its folder, or the name of one that comes with the library."
    parser.add_argument("--voice", type=Path | None, help=named)


def _add_run(parser: ArgumentParser, needed: bool = True) -> None:
    run = "A run's folder (its best checkpoint), a checkpoint, or a voice."
    parser.add_argument("run", type=Path if needed else Path | None, nargs=None if needed else "?", help=run)
    _add_scaling(parser)


def _add_scaling(parser: ArgumentParser) -> None:
    scaled = "What samples are scaled by before they become classes; null for what the run's config.yaml says."
    parser.add_argument("--scaling", type=Scaling | None, default=None, help=scaled)


def _add_files(parser: ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, help="Recordings: WAV, FLAC and other audio files.")
