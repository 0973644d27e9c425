"""Finding runs and their checkpoints, and voices.

A run is a folder `LOGS/NAME/version_N` with `config.yaml` and `checkpoints/` holding `best.ckpt` and `last.ckpt`. Folders without a
checkpoint are not runs: they were made by a training that stopped before its first one. A voice is a folder with `model.safetensors`; those
that come with the library are found by their names.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harmonicrnn.errors import UserError

CHECKPOINTS = "checkpoints"
WEIGHTS = "model.safetensors"
VOICES = Path(__file__).parent / "voices"


@dataclass(frozen=True)
class Run:
    """A run's folder and one of its checkpoints; or a voice's folder and its weights."""

    folder: Path
    checkpoint: Path

    @property
    def config(self) -> Path:
        """The full configuration it was trained with; may be missing where the checkpoint was moved."""
        return self.folder / "config.yaml"

    @property
    def is_voice(self) -> bool:
        """Whether it is a voice's folder: nothing is written there."""
        return self.checkpoint.name == WEIGHTS

    @property
    def goes_on_in_place(self) -> bool:
        """Whether training that goes on from here stays in the folder, as the checkpoint is the run's newest."""
        last = self.checkpoint.with_name("last.ckpt")
        return self.config.is_file() and (self.checkpoint == last or not last.exists())


def find_run(checkpoint: str | None, logs: Path) -> Run:
    """The run meant by `--ckpt_path`.

    Args:
        checkpoint: a file, or "best" or "last" of the newest run below `logs`; None is best, or last where there is no best. A run that was
            killed between writing its first best and its first last goes on from the best, which was made at the same step.
        logs: where runs lie, at any depth.

    Raises:
        UserError: there is no such file or run.
    """
    if checkpoint not in (None, "best", "last"):
        if not Path(str(checkpoint)).is_file():
            raise UserError(f"--ckpt_path {checkpoint}: there is no such file; give a checkpoint, best or last")
        return run_of(Path(str(checkpoint)))
    found = _checkpoints(logs)
    if not found:
        raise UserError(f"{logs}: no run with a checkpoint; train first (python train.py fit --config ...), or give --ckpt_path FILE")
    return _one_of(max(found, key=lambda path: found[path]).parents[1], checkpoint)


def run_of(path: Path) -> Run:
    """The run that a checkpoint is of: the folder around its folder `checkpoints`; that which it lies in where this is called otherwise.

    A link to a checkpoint is that checkpoint.
    """
    path = path.resolve() if path.is_symlink() else _with_folders(path)
    return Run(path.parents[1] if path.parent.name == CHECKPOINTS else path.parent, path)


def run_at(path: Path) -> Run:
    """The run of a folder, with its best checkpoint or else its last, or of a checkpoint; or the voice of a folder, of its weights, or of a
    name that no file has.

    Raises:
        UserError: there is none.
    """
    if not path.exists() and len(path.parts) == 1 and (VOICES / path / WEIGHTS).is_file():
        path = VOICES / path
    if path.is_dir():
        return Run(path, path / WEIGHTS) if (path / WEIGHTS).is_file() else _one_of(path, None)
    if not path.is_file():
        names = ", ".join(sorted(each.parent.name for each in VOICES.glob(f"*/{WEIGHTS}"))) or "none"
        raise UserError(f"{path}: there is no such checkpoint, run or voice; voices that come with the library: {names}")
    return Run(path.parent, path) if path.name == WEIGHTS else find_run(str(path), path.parent)


def _with_folders(path: Path) -> Path:
    """The path of a checkpoint with names for the folders that a run lies in, also where it is given from inside of them."""
    if ".." in path.parts:
        return path.parent.resolve() / path.name
    return path if len(path.parts) >= len(("name", "version", CHECKPOINTS, "file")) else path.absolute()


def _one_of(folder: Path, checkpoint: str | None) -> Run:
    for name in {"best": ["best"], "last": ["last", "best"]}.get(str(checkpoint), ["best", "last"]):
        if (path := folder / CHECKPOINTS / f"{name}.ckpt").is_file():
            path = _with_folders(path)
            return Run(path.parents[1], path)
    raise UserError(f"{folder}: has no checkpoints/{checkpoint or 'best or last'}.ckpt; name a checkpoint")


def any_runs(logs: Path) -> bool:
    """Whether a run with a checkpoint lies below `logs`."""
    return bool(_checkpoints(logs))


def _checkpoints(logs: Path) -> dict[Path, float]:
    """Those below `logs`, and when each was changed; links to nothing, and those that vanish while being looked at, are none."""
    found = {}
    for folder in _folders(logs):
        for path in folder.glob("*.ckpt") if folder.name == CHECKPOINTS else ():
            with suppress(OSError):
                if path.is_file():
                    found[path] = path.stat().st_mtime
    return found


def _folders(top: Path) -> Iterator[Path]:
    """A folder and all below it, also behind links, each once: under its own name where it has one there."""
    seen: set[tuple[int, int]] = set()
    waiting, linked = [top], list[Path]()
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.pop()
        with suppress(OSError):
            status = folder.stat()
            if (place := (status.st_dev, status.st_ino)) not in seen:
                seen.add(place)
                yield folder
                for path in folder.iterdir():
                    if path.is_dir():
                        (linked if path.is_symlink() else waiting).append(path)
