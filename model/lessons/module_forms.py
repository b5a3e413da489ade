"""The forms that use torch.nn: a chain of layers, an optimizer, and a class for the network."""

import math
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.lessons.formulations import Form, Setup
from model.lessons.tensor_forms import leaf_gradients
from model.net import TwoLayerNet


def sequential(
    in_features: int, hidden_features: int, out_features: int, seed: int = 0
) -> nn.Sequential:
    """Return a chain of named layers (net.linear1 is also net[0]) with random weights.

    With a = sqrt(5), the weights are uniform within +-1 / sqrt(in), like those of nn.Linear. The He
    initializer for ReLU is sqrt(6) times as wide: from its weights, plain gradient descent with a
    learning rate of 1e-3 on a summed loss diverges or stalls.
    """
    linear1 = nn.Linear(in_features, hidden_features)  # weight (hidden, in), bias (hidden,)
    linear2 = nn.Linear(hidden_features, out_features)  # weight (out, hidden), bias (out,)
    generator = torch.Generator().manual_seed(seed)
    for layer in (linear1, linear2):
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(OrderedDict(linear1=linear1, relu=nn.ReLU(), linear2=linear2))


def parameters_by_name(net: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of the two layers by the names w1, b1, w2 and b2."""
    return dict(zip(("w1", "b1", "w2", "b2"), net.parameters(), strict=True))


class Sequential(Form):
    """Autograd with the weights, the forward pass and the loss replaced by those of torch.nn."""

    name, by_hand = "sequential", "update, zeroing"
    start = "initialised"
    weights: dict[str, Tensor]

    def __init__(self, setup: Setup, dtype: torch.dtype = torch.float32) -> None:
        self.x = torch.tensor(setup.x, dtype=dtype)  # (rows, in): row-major from here on
        self.y = torch.tensor(setup.y, dtype=dtype)  # (rows, out)
        shape = self.x.shape[1], len(setup.weights["w1"]), self.y.shape[1]
        self.net = self.network(*shape).to(dtype)
        self.weights = parameters_by_name(self.net)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(torch.from_numpy(setup.weights[name]))
        self.learning_rate = setup.learning_rate

    def network(self, in_features: int, hidden_features: int, out_features: int) -> nn.Module:
        """Return the network, whose weights the constructor then overwrites."""
        return sequential(in_features, hidden_features, out_features)

    def step(self) -> float:
        """Take a step; return the loss before its update."""
        # forward
        v = self.net(self.x)  # (rows, out)
        loss = nn.functional.mse_loss(v, self.y, reduction="sum")  # ()
        # backward
        self.net.zero_grad()  # removes the gradients of the previous step
        loss.backward()  # type: ignore[no-untyped-call] # torch ships no annotation
        self.gradients = leaf_gradients(self.weights)  # each of the shape of its weight
        # update
        self.update(self.gradients)
        return loss.item()

    def update(self, gradients: Mapping[str, Tensor]) -> None:
        """Subtract from each weight the learning rate times its gradient."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight -= self.learning_rate * gradients[name]


class Optim(Sequential):
    """Sequential with the update replaced by torch.optim.Adam.

    The author still calls forward, zero_grad, backward and step in the right order.
    """

    name, by_hand = "optim", "order of calls"

    def __init__(self, setup: Setup, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(setup, dtype)
        self.adam = torch.optim.Adam(self.net.parameters(), lr=self.learning_rate)

    def update(self, gradients: Mapping[str, Tensor]) -> None:
        """Let Adam update each parameter from its .grad."""
        self.adam.step()


class Module(Optim):
    """Optim with the chain of layers replaced by the class TwoLayerNet of model/net.py.

    The forward method of a class may also branch, loop or take several inputs.
    """

    name, by_hand = "module", "forward, order"

    def network(self, in_features: int, hidden_features: int, out_features: int) -> nn.Module:
        """Return the network, whose weights the constructor then overwrites."""
        return TwoLayerNet(in_features, hidden_features, out_features)
