"""A spiking network trained by the Trainer of Hugging Face on the digits of scikit-learn, then folded and checked.

pip install "bitspike[examples,demo]"
python examples/hf_trainer.py
"""

from __future__ import annotations

import tempfile

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import EvalPrediction, Trainer, TrainingArguments

import bitspike
from bitspike.data import Batches, Samples, load
from bitspike.models import study_cnn
from bitspike.neurons import Ternary
from bitspike.quantizers import Uniform
from bitspike.training.losses import mean_loss


class ForTrainer(nn.Module):
    """The form that `Trainer` calls: named tensors in, a dict with the loss out.

    Args:
        network: samples [B, ...] → logits [B, K].
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Logits [B, K], and the loss where there are labels; the loss stands first, as `Trainer` wants it."""
        logits = self.network(pixel_values)
        return {"logits": logits} if labels is None else {"loss": mean_loss(logits, labels), "logits": logits}


class Rows(Dataset):
    """A set of the library as dicts of normalised tensors."""

    def __init__(self, samples: Samples) -> None:
        self.x, self.y = next(iter(Batches(samples, len(samples))))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.x[index], "labels": self.y[index]}


def accuracy(found: EvalPrediction) -> dict[str, float]:
    """Share of right answers."""
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


def main(epochs: int = 6) -> dict[str, float]:
    """Train, fold, compare: accuracy of the network, of the folded one, and how far their logits are apart."""
    torch.manual_seed(0)
    digits = load("digits")
    train, validation = Rows(digits.train), Rows(digits.validation)
    network = study_cnn(Ternary(), Uniform(4), T=2, shape=(1, 8, 8), width=8, stem_stride=1)
    with tempfile.TemporaryDirectory() as folder:
        given = TrainingArguments(
            output_dir=folder, num_train_epochs=epochs, per_device_train_batch_size=64, learning_rate=0.01,
            lr_scheduler_type="cosine", save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, seed=0,
            logging_strategy="no",
        )  # fmt: skip
        trainer = Trainer(
            ForTrainer(network), given, train_dataset=train, eval_dataset=validation, compute_metrics=accuracy
        )
        trainer.train()
        figures = trainer.evaluate()

    folded = bitspike.fold(network.eval(), validation.x)
    with torch.no_grad():
        right = (folded(validation.x).argmax(1) == validation.y).float().mean()
    return {
        "accuracy": figures["eval_accuracy"],
        "folded": float(right),
        "difference": folded.report.max_logit_difference,
    }


if __name__ == "__main__":
    print(main())
