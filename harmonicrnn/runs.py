"""Finds runs, their checkpoints, and voices.

A run is a folder `LOGS/NAME/version_N` with `config.yaml` and `checkpoints/` holding `best.ckpt` and `last.ckpt`. Folders without a
checkpoint are not runs: their training stopped before its first one. A voice is a folder with `model.safetensors`; voices that come with
the library are found by name.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harmonicrnn.errors import UserError
from harmonicrnn.files import walk

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
        """The full configuration of its training; may be missing if the checkpoint was moved."""
        return self.folder / "config.yaml"

    @property
    def is_voice(self) -> bool:
        """Whether it is a voice's folder, where nothing is written."""
        return self.checkpoint.name == WEIGHTS

    @property
    def goes_on_in_place(self) -> bool:
        """Whether training resumed from here stays in the folder: if the checkpoint is the run's newest."""
        last = self.checkpoint.with_name("last.ckpt")
        return self.config.is_file() and (self.checkpoint == last or not last.exists())


def find_run(checkpoint: str | None, logs: Path) -> Run:
    """Returns the run meant by `--ckpt_path`.

    Args:
        checkpoint: a file, or "best" or "last" of the newest run below `logs`; None is best, or last if there is no best. A run killed
            between writing its first best and its first last resumes from the best, of the same step.
        logs: folder of runs, at any depth.

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
    """Returns the run of a checkpoint: the folder around its folder `checkpoints`, or the checkpoint's folder if that has another name.

    A link to a checkpoint is that checkpoint.
    """
    path = path.resolve() if path.is_symlink() else _with_folders(path)
    return Run(path.parents[1] if path.parent.name == CHECKPOINTS else path.parent, path)


def run_at(path: Path) -> Run:
    """Returns the run of a folder, with its best or else last checkpoint, or of a checkpoint; or the voice of a folder, of its weights, or
    of a name that is not a path.

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
    """Returns a checkpoint's path including the folders of its run, made absolute if it is given from inside them."""
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
    """Returns whether there is a run with a checkpoint below `logs`."""
    return bool(_checkpoints(logs))


def _checkpoints(logs: Path) -> dict[Path, float]:
    """Returns the checkpoints below `logs` with their modification times; skips broken links and vanished files."""
    found = {}
    for folder, _, names in walk(logs):
        for name in names if folder.name == CHECKPOINTS else ():
            with suppress(OSError):
                if name.endswith(".ckpt"):
                    found[folder / name] = (folder / name).stat().st_mtime
    return found
