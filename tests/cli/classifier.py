"""A LightningModule that is not an autoregressive model: batches of (clip, label), accuracy instead of likelihood."""

import lightning as L
import torch
import torch.nn.functional as F


class Parity(L.LightningModule):
    """Classifies clips as even or odd by their mean level; takes the data's bits but not its sample rate."""

    best_by = ("val/accuracy", "max")

    def __init__(self, bits: int = 8, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.bits, self.lr = bits, lr
        self.layer = torch.nn.Linear(1, 2)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch.classes.float().mean(dim=1, keepdim=True) / 2**self.bits, batch.clip % 2

    def training_step(self, batch):
        clips, labels = batch
        return F.cross_entropy(self.layer(clips), labels)

    def validation_step(self, batch):
        clips, labels = batch
        self.log("val/accuracy", (self.layer(clips).argmax(dim=1) == labels).float().mean())

    def test_step(self, batch):
        clips, labels = batch
        self.log("test/accuracy", (self.layer(clips).argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)
