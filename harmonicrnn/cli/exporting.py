"""Implements `harmonicrnn export`: writes a trained model as a voice folder."""

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from harmonicrnn.errors import UserError
from harmonicrnn.files import pasteable
from harmonicrnn.voice import Voice
from harmonicrnn.voice_folder import check_free


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of `export`."""
    add = parser.add_argument
    add("--out", type=Path | None, help="Folder to make for the voice.")
    add("--license", type=str | None, help="The Hub's identifier of the weights' licence, such as cc-by-sa-3.0; null for unknown.")
    add("--sources", type=Path | None, help="A text file on the training recordings and their licences, for the card.")
    add("--temperature", type=float | None, help="Default sampling temperature; null for 1.")
    add("--clips", type=Path, nargs="*", default=[], help="Up to four clips drawn from it, WAV or FLAC.")


def check_out(options: Namespace) -> None:
    """Raises UserError if no folder is given or it is in use."""
    if options.out is None:
        raise UserError("--out is missing: name a folder to make for the voice")
    check_free(options.out)


def export(options: Namespace, voice: Voice) -> None:
    """Writes the voice folder and prints its path.

    Raises:
        UserError: an option cannot be used, or the folder cannot be written.
    """
    sources = None
    if options.sources is not None:
        try:
            sources = options.sources.read_text().strip()
        except (OSError, ValueError) as error:
            raise UserError(f"--sources {options.sources}: cannot be read as text: {error}") from error
    voice.save(options.out, license=options.license, sources=sources, clips=options.clips, temperature=options.temperature)
    print(f"Written to {pasteable(options.out)}")
