"""Reads and writes the folder of a voice: weights, config, model card and clips. Reading runs no code.

model.safetensors   the model's weights by their names
config.json         architecture, quantisation and provenance: {"format": 1, "model": {"class", "arguments"},
                    "quantiser": {"bits", "law"}, "sample_rate", "scaling", "unseen_in_weights", "parameters", "about", "saved_with"}
README.md           the card, see `model_card`
clip_1.wav, ...     up to four, WAV or FLAC
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import soundfile
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harmonicrnn.audio.quantise import Law, Scaling
from harmonicrnn.audio.writing import writing
from harmonicrnn.checkpoints import KEY, NET, UNSEEN, read_checkpoint
from harmonicrnn.errors import UserError
from harmonicrnn.files import making_folder
from harmonicrnn.model_card import card, check_about
from harmonicrnn.runs import WEIGHTS, run_at

FORMAT = 1
"""Version of the format, incremented when older folders can no longer be read."""

CONFIG, CARD = "config.json", "README.md"
LAWS = get_args(Law)
MOST_CLIPS = 4
CLIP_FORMATS = (".wav", ".flac")
DAMAGED = "download or save the whole folder again"


def read_weights(path: Path) -> tuple[Path, dict[str, Any]]:
    """Returns the file of the weights for a path, and its contents as `read_checkpoint`.

    Args:
        path: a voice's folder or name, a run's folder, or a checkpoint.

    Raises:
        UserError: there is none, or it cannot be used.
    """
    file = run_at(path).checkpoint
    return file, read_folder(file.parent) if file.name == WEIGHTS else read_checkpoint(file)


def read_folder(folder: Path) -> dict[str, Any]:
    """Returns the contents of a voice's folder, in the form of a checkpoint, on the CPU; and its whole config as "voice".

    Raises:
        UserError: a file is missing or damaged, a setting is invalid, or it was written by a later format.
    """
    config = _read_config(folder / CONFIG)
    try:
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder / WEIGHTS}: is cut short, damaged or no safetensors file ({error}): {DAMAGED}") from error
    known = {"law": config["quantiser"]["law"], "sample_rate": config["sample_rate"]}
    kind, arguments = config["model"]["class"], config["model"].get("arguments")
    settings = {"_class_path": kind} if arguments is None else _tuples(arguments)
    return {
        "state_dict": {NET + name: value for name, value in weights.items()},
        "hyper_parameters": settings | known,
        UNSEEN: config["unseen_in_weights"] | known,
        KEY: {"format": 1},
        "voice": config,
    }


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; it describes the model of the weights: {DAMAGED}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged or no JSON ({error}): {DAMAGED}") from error
    number = config.get("format") if isinstance(config, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise UserError(f"{path}: format is {number}, this version reads up to {FORMAT}: install a later harmonicrnn")
    for key, wanted, fits in (
        ("format", "a whole number", lambda value: isinstance(value, int)),
        ("model", "class and arguments", lambda value: isinstance(value, dict) and isinstance(value.get("class"), str)),
        ("model", "arguments by their names", lambda value: isinstance(value.get("arguments"), dict | None)),
        ("quantiser", f"bits and a law of {', '.join(LAWS)}", lambda value: isinstance(value, dict) and value.get("law") in LAWS),
        ("sample_rate", "a whole number of Hz, at least 1", lambda value: type(value) is int and value >= 1),
        ("parameters", "a whole number", lambda value: type(value) is int),
        ("scaling", f"one of {', '.join(get_args(Scaling))}", lambda value: value in get_args(Scaling)),
        ("unseen_in_weights", "settings by their names", lambda value: isinstance(value, dict)),
        ("about", "facts by their names", lambda value: isinstance(value, dict)),
    ):
        found = config.get(key) if isinstance(config, dict) else None
        if not fits(found):
            raise UserError(f"{path}: {key}: wanted {wanted}, found {json.dumps(found)[:80]}: {DAMAGED}")
    check_about(config["about"], path, DAMAGED)
    return config


def _tuples(value: Any) -> Any:
    """Converts lists of JSON to tuples."""
    if isinstance(value, dict):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def check_numbers(file: Path, config: Mapping[str, Any], bits: int, parameters: int) -> None:
    """Raises UserError if a voice's config gives its model other bits per sample, or another number of parameters, than it has."""
    for key, found, wanted in (
        ("quantiser: bits", config["quantiser"].get("bits"), bits),
        ("parameters", config["parameters"], parameters),
    ):
        if found != wanted:
            raise UserError(f"{file.parent / CONFIG}: {key}: wanted {wanted}, as its model has, found {json.dumps(found)[:80]}: {DAMAGED}")


def check_tensors(file: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raises UserError, naming the first difference, if tensors differ from `wanted` in name, dtype or shape."""
    for name in sorted({*found, *wanted}):
        theirs, ours = (_described(tensors.get(name)) for tensors in (found, wanted))
        if theirs != ours:
            raise UserError(
                f"{file}: {name}: wanted {ours} by its {CONFIG}, found {theirs}: the files are not of one voice, or of another version: "
                f"{DAMAGED}"
            )


def _described(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def check_free(folder: Path) -> None:
    """Raises UserError unless the folder does not exist or is empty."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not an empty folder; name another one, or remove it")


def write_folder(
    folder: Path, weights: Mapping[str, Tensor], config: dict[str, Any], clips: Sequence[Path] = (), text: str | None = None
) -> None:
    """Writes a voice's folder, atomically.

    Args:
        folder: must not exist, or be empty.
        weights, config: of the voice.
        clips: files to copy, which `check_clips` has accepted.
        text: of the card; None writes one.

    Raises:
        UserError: the folder is in use or cannot be written.
    """
    check_free(folder)
    names = [f"clip_{number}{clip.suffix.lower()}" for number, clip in enumerate(clips, start=1)]
    with writing(folder), making_folder(folder) as part:
        # The Hub's readers need the format entry.
        tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        save_file(tensors, part / WEIGHTS, metadata={"format": "pt"})
        (part / CONFIG).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n")
        (part / CARD).write_text(card(folder.resolve().name, config, names) if text is None else text, encoding="utf-8")
        for clip, name in zip(clips, names, strict=True):
            shutil.copyfile(clip, part / name)


def check_clips(clips: Sequence[Path]) -> None:
    """Raises UserError if there are too many clips, or one is no WAV or FLAC file."""
    if len(clips) > MOST_CLIPS:
        raise UserError(f"clips: a voice has at most {MOST_CLIPS}, got {len(clips)}")
    for clip in clips:
        if clip.suffix.lower() not in CLIP_FORMATS:
            raise UserError(f"{clip}: a voice's clips are {' or '.join(CLIP_FORMATS)} files")
        try:
            soundfile.info(clip)
        except (soundfile.SoundFileError, OSError) as error:
            raise UserError(f"{clip}: cannot be read as audio; give a {' or '.join(CLIP_FORMATS)} file") from error


def clips_in(folder: Path) -> list[Path]:
    """Returns the clips of a voice's folder."""
    return sorted(path for path in folder.glob("clip_*") if path.suffix in CLIP_FORMATS and _is_its_own(path))[:MOST_CLIPS]


def card_in(folder: Path) -> str | None:
    """Returns the card of a voice's folder; None if it cannot be read."""
    try:
        return (folder / CARD).read_text(encoding="utf-8") if _is_its_own(folder / CARD) else None
    except (OSError, ValueError):
        return None


def _is_its_own(path: Path) -> bool:
    """Returns whether a file is in the folder or, as in the Hub's cache, a link to one of its blobs: a downloaded folder could hold links
    to private files, which saving it again would copy."""
    target = path.resolve()
    return target.is_file() and (target.parent == path.parent.resolve() or target.parent.name == "blobs")
