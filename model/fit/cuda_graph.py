"""Training steps captured as one CUDA graph."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


class CapturedSteps:
    """Steps in a CUDA graph, which one launch replays without waiting for the GPU."""

    def __init__(
        self, take_steps: Callable[[Tensor, Tensor], None], steps: int, state: Mapping[str, Tensor]
    ) -> None:
        """Capture the steps, then restore `state`: the CUDA tensors that the steps modify.

        take_steps reads the learning rates and writes the losses, both (steps,) float32.
        """
        device = next(iter(state.values())).device
        self.rates = torch.zeros(steps, device=device)
        self.losses = torch.zeros(steps, device=device)
        self._last_rates: list[float] = []

        before = {name: tensor.clone() for name, tensor in state.items()}
        # The warm-up makes CUDA's libraries allocate their workspaces, which a capture must not do.
        warm_up = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch ships no annotation
        warm_up.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm_up):
            take_steps(self.rates, self.losses)
        torch.cuda.current_stream().wait_stream(warm_up)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            take_steps(self.rates, self.losses)
        for name, tensor in state.items():
            tensor.copy_(before[name])

    def replay(self, rates: Sequence[float]) -> Tensor:
        """Take the steps; return their losses, (steps,), which the next replay overwrites."""
        if list(rates) != self._last_rates:
            self._last_rates = list(rates)
            self.rates.copy_(torch.tensor(self._last_rates))
        self._graph.replay()
        return self.losses
