"""The network: TwoLayerNet, and ScaledNet, which carries the scaling of its inputs and outputs with it.

Training sees TwoLayerNet alone. What is saved, exported and served is a ScaledNet, so that whoever
calls it gives raw feature values and gets answers in the target's own units.
"""

import torch
from torch import Tensor, nn


class TwoLayerNet(nn.Module):
    """Linear -> ReLU -> Linear."""

    def __init__(self, in_features: int, hidden_features: int, out_features: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(in_features, hidden_features)
        self.relu = nn.ReLU()
        self.linear2 = nn.Linear(hidden_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map x, (batch, in_features) float32, to (batch, out_features) float32."""
        h: Tensor = self.relu(self.linear1(x))  # (batch, hidden_features)
        y: Tensor = self.linear2(h)  # (batch, out_features)
        return y


class ScaledNet(nn.Module):
    """A TwoLayerNet behind a fixed standardisation of its inputs; its subclasses add the head.

    The scaling is a part of the graph rather than folded into linear1: folding cancels
    catastrophically where a column's mean is large against its spread.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: TwoLayerNet, shift: Tensor, scale: Tensor) -> None:
        """Wrap net; shift and scale are (in_features,) float32, scale 0 for a constant column."""
        super().__init__()
        self.net = net
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def standardise(self, x: Tensor) -> Tensor:
        """Map raw rows x, (batch, in_features) float32, to what the net is trained on."""
        return (x - self.shift) * self.scale

    def scores(self, x: Tensor) -> Tensor:
        """Map raw rows x, (batch, in_features) float32, to (batch, out_features) float32."""
        v: Tensor = self.net(self.standardise(x))
        return v

    def training_targets(self, y: Tensor) -> Tensor:
        """Map raw targets to what the loss compares the net's scores with."""
        return y


class ScaledRegressor(ScaledNet):
    """Answers in the units of the targets."""

    output_scale: Tensor
    output_shift: Tensor

    def __init__(
        self,
        net: TwoLayerNet,
        shift: Tensor,
        scale: Tensor,
        output_scale: Tensor,
        output_shift: Tensor,
    ) -> None:
        """Wrap net; output_scale and output_shift are (out_features,) float32."""
        super().__init__(net, shift, scale)
        self.register_buffer("output_scale", output_scale)
        self.register_buffer("output_shift", output_shift)

    def training_targets(self, y: Tensor) -> Tensor:
        """Map y, (rows, out_features) float64 in the targets' units, to standardised float32."""
        return ((y - self.output_shift) / self.output_scale).float()

    def forward(self, x: Tensor) -> Tensor:
        """Map x, (batch, in_features) float32, to `output`, (batch, out_features) float32."""
        return self.scores(x) * self.output_scale + self.output_shift


class ScaledClassifier(ScaledNet):
    """Answers with logits, probabilities and the index of the likeliest class."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map x, (batch, in_features) float32, to logits and probabilities, (batch, classes), and label.

        Returns:
            logits and probabilities, (batch, classes) float32, and label, (batch,) int64.
        """
        logits = self.scores(x)
        return logits, torch.softmax(logits, dim=1), torch.argmax(logits, dim=1)
