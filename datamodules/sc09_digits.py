"""SC09 dataset with labels, for the digit classifier."""

from typing import Any

from torch.utils.data import DataLoader

from datamodules.sc09 import SC09
from harmonicrnn.audio.dataset import Batch
from harmonicrnn.errors import UserError


class SC09Digits(SC09):
    """SC09 with labels. Validation also runs over the test split, so that checkpoints contain its accuracy.

    Args:
        kwargs: Settings of `SC09`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.order != "clips":
            raise UserError(f"data.order must be clips where clips have labels, got {self.order}")

    def setup(self, stage: str) -> None:
        super().setup(stage)
        super().setup("test")

    def val_dataloader(self) -> list[DataLoader[Batch]]:  # type: ignore[override]
        """Return the loaders of the validation split and of the test split."""
        return [super().val_dataloader(), self.test_dataloader()]
