"""Loads and saves voices on the Hugging Face Hub, through its mixin; the library's only use of the network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download

from harmonicrnn.errors import UserError

FILES = ["model.safetensors", "config.json", "README.md", "clip_?.wav", "clip_?.flac"]


class HubVoice(ModelHubMixin, library_name="harmonicrnn"):
    """Adapter for the mixin: `save` writes a voice into a folder, `loaded` is the result of `load`."""

    _hub_mixin_config = {}  # noqa: RUF012  # `save` writes the config; the mixin would write the arguments

    def __init__(self, save: Callable[[Path], Any] | None = None, loaded: Any = None) -> None:
        self.save, self.loaded = save, loaded

    def _save_pretrained(self, save_directory: Path) -> None:
        assert self.save is not None
        self.save(save_directory)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> "HubVoice":
        load = options.pop("load")
        return cls(loaded=load(Path(snapshot_download(model_id, allow_patterns=FILES, **options))))


@contextmanager
def told(name: str | Path) -> Iterator[None]:
    """Turns errors of the Hub inside the context into UserError that names what was requested."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the Hub's library and its connection can raise any error
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{name}: it is not on the Hub, or the Hub cannot be reached: {why[:300]}: look at the name OWNER/NAME, log in with hf auth "
            "login, or give a folder"
        ) from error
