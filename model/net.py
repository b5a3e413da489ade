"""TwoLayerNet, and ScaledNet, which adds the scaling of inputs and outputs.

The fit trains the TwoLayerNet. Runs and artifacts contain the ScaledNet, which maps raw feature
values to predictions in the units of the targets.
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
    """A TwoLayerNet that first standardises its inputs; subclasses define the outputs.

    The scaling is not folded into linear1, because folding causes catastrophic cancellation if the
    mean of a column is large relative to its standard deviation.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: TwoLayerNet, shift: Tensor, scale: Tensor) -> None:
        """Wrap net; shift and scale are (in_features,) float32. Constant columns have scale 0."""
        super().__init__()
        self.net = net
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def standardise(self, x: Tensor) -> Tensor:
        """Map raw rows x, (batch, in_features) float32, to standardised rows of the same shape."""
        return (x - self.shift) * self.scale

    def scores(self, x: Tensor) -> Tensor:
        """Map raw rows x, (batch, in_features) float32, to net's outputs, (batch, out_features)."""
        v: Tensor = self.net(self.standardise(x))  # v as in docs/numerics.md
        return v

    def training_targets(self, y: Tensor) -> Tensor:
        """Map raw targets y to the values that the loss compares with the scores."""
        return y


class ScaledRegressor(ScaledNet):
    """A regressor whose output is in the units of the targets."""

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
    """A classifier that returns logits, probabilities and the index of the most likely class."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map x, (batch, in_features) float32, to the outputs of a classifier.

        Returns:
            logits and probabilities, (batch, classes) float32, and label, (batch,) int64.
        """
        logits = self.scores(x)
        return logits, torch.softmax(logits, dim=1), torch.argmax(logits, dim=1)
