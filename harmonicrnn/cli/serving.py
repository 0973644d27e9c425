"""Implements `harmonicrnn serve`: the live page on a local port."""

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from harmonicrnn.cli.generating import add_device, device_of
from harmonicrnn.errors import UserError
from harmonicrnn.runs import run_at
from harmonicrnn.voice import load

PORT = 8420


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of `serve`."""
    voices = "Voices to choose from: their folders, names of those that come with the library, or folders of runs."
    parser.add_argument("--voice", type=Path, nargs="+", required=True, help=voices)
    parser.add_argument("--port", type=int, default=PORT, help="Port on this machine's address 127.0.0.1; 0 for any free port.")
    add_device(parser)


def serve(options: Namespace) -> None:
    """Serves the page until Ctrl-C.

    Raises:
        UserError: tornado is missing, the port cannot be had, or a voice cannot be used.
    """
    try:
        from harmonicrnn.live.loopback import ADDRESS, bind, serve_until_signal
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
