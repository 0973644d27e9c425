"""SC09 with its labels, for the classifier of digits."""

from typing import Any

from torch.utils.data import DataLoader

from datamodules.sc09 import SC09
from harmonicrnn.audio.dataset import Batch
from harmonicrnn.errors import UserError


class SC09Digits(SC09):
    """Spoken digits and which they are; validation goes over the test split too, so that each checkpoint knows its accuracy there.

    Args:
        kwargs: As for SC09.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.order != "clips":
            raise UserError(f"data.order must be clips where clips have labels, got {self.order}")

    def setup(self, stage: str) -> None:
        super().setup(stage)
        super().setup("test")

    def val_dataloader(self) -> list[DataLoader[Batch]]:  # type: ignore[override]
        """Of the validation split, and of the test split."""
        return [super().val_dataloader(), self.test_dataloader()]
