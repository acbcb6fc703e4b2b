"""Series, text and recurrence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import case, series, words


@case("1-D, same padding", series())
class Same1d(nn.Module):
    """Padding computed from shapes, as ports of TensorFlow code do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv1d(4, 8, 5, stride=2), nn.Conv1d(8, 8, 3, stride=2), nn.Linear(8, 5)

    @staticmethod
    def pad(x: Tensor, kernel: int, stride: int) -> Tensor:
        length = x.shape[-1]
        out = (length + stride - 1) // stride
        need = max(0, (out - 1) * stride + kernel - length)
        return F.pad(x, (need // 2, need - need // 2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(self.pad(x, 5, 2)))
        x = F.relu(self.b(self.pad(x, 3, 2)))
        return self.fc(x.mean(-1))


class Causal(nn.Module):
    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.cut = 2 * dilation
        self.conv = nn.Conv1d(inputs, outputs, 3, padding=self.cut, dilation=dilation)
        self.down = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.conv(x)[:, :, : -self.cut].contiguous())
        return F.relu(out + (x if self.down is None else self.down(x)))


@case("temporal convolutions", series())
class Tcn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.fc = nn.Sequential(Causal(4, 8, 1), Causal(8, 8, 2), Causal(8, 8, 4)), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.net(x)[:, :, -1])


@case(
    "text: embedding and convolution",
    words(),
    convert="behind its embedding",
    compile="Embedding reads numbers of words",
)
class TextConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.convs = nn.ModuleList([nn.Conv1d(8, 6, k) for k in (2, 3)])
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).transpose(1, 2)
        x = [F.relu(conv(x)).max(dim=2)[0] for conv in self.convs]
        return self.fc(torch.cat(x, 1))


@case("text: bag of words", words(), convert="behind its embedding", compile="Embedding reads numbers of words")
class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = (
            nn.Embedding(20, 8, padding_idx=0),
            nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 5)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.embed(x).mean(dim=1))


@case("LSTM", series(), upgrade="LSTM", compile="LSTM keeps a state")
class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(4, 8, batch_first=True), nn.Sequential(nn.ReLU(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x.transpose(1, 2))
        return self.fc(out[:, -1])


@case("GRU cell in a loop", series(), upgrade="GRUCell", compile="GRUCell keeps a state")
class GruLoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.fc = nn.GRUCell(4, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 8, dtype=x.dtype)
        for t in range(x.size(2)):
            h = self.cell(x[:, :, t], h)
        return self.fc(h)
