"""A spiking network in a Lightning module, trained on the digits of scikit-learn, then folded and checked.

pip install "bitspike[examples,demo]"
python examples/lightning_module.py
"""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bitspike
from bitspike.data import Batches, Samples, load
from bitspike.models import study_cnn
from bitspike.neurons import MultiBit
from bitspike.quantizers import Uniform
from bitspike.training.losses import mean_loss


class SpikingModule(L.LightningModule):
    """Any network of the library as a Lightning module: neurons keep nothing between calls, so there is no reset.

    Args:
        network: samples [B, ...] → logits [B, K]. lr: peak of the one-cycle schedule.
    """

    def __init__(self, network: nn.Module, lr: float = 0.01) -> None:
        super().__init__()
        self.network, self.lr = network, lr

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K]."""
        return self.network(x)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of a batch."""
        x, y = batch
        loss = mean_loss(self(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """The accuracy of a batch; Lightning averages."""
        x, y = batch
        self.log("accuracy", (self(x).argmax(1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> dict[str, object]:
        """AdamW and a schedule a step."""
        optimiser = torch.optim.AdamW(self.parameters(), lr=self.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, total_steps=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def tensors(samples: Samples) -> TensorDataset:
    """A set of the library as normalised tensors."""
    x, y = next(iter(Batches(samples, len(samples))))
    return TensorDataset(x, y)


def main(epochs: int = 6) -> dict[str, float]:
    """Train, fold, compare: accuracy of the network, of the folded one, and how far their logits are apart."""
    L.seed_everything(0)
    digits = load("digits")
    train, validation = tensors(digits.train), tensors(digits.validation)
    network = study_cnn(MultiBit(m=1, n=1), Uniform(4), T=2, shape=(1, 8, 8), width=8, stem_stride=1)
    module = SpikingModule(network)
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(train, 64, shuffle=True), DataLoader(validation, 256))
    accuracy = float(trainer.callback_metrics["accuracy"])

    x, y = validation.tensors
    folded = bitspike.fold(module.network.eval(), x)
    with torch.no_grad():
        right = (folded(x).argmax(1) == y).float().mean()
    return {"accuracy": accuracy, "folded": float(right), "difference": folded.report.max_logit_difference}


if __name__ == "__main__":
    print(main())
