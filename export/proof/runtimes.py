"""The runtimes that the proof evaluates on this machine, each a function from rows to outputs.

They are: the session that the service uses; ONNX Runtime at every other graph optimisation level
and on every other installed execution provider; TorchScript; and the network in eager PyTorch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnxruntime
import torch
from numpy.typing import NDArray

from export.proof.bound import Float32Array
from export.proof.expected import Weights, task_of
from model.run import net_from_weights
from service.artifact.manifest import OUTPUTS, ArtifactError
from service.runtime.session import Session

Outputs = Mapping[str, NDArray[Any]]
"""Arrays by output name."""
Runtime = Callable[[Float32Array], Outputs]
SERVING_RUNTIME = "onnxruntime"
"""Name of the session that the service uses, on the CPU with all graph optimisations."""
SERVING_OPTIMIZATION_LEVEL = "ORT_ENABLE_ALL"
FLOAT32_PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    "CUDAExecutionProvider": {"use_tf32": "0"},
    "DnnlExecutionProvider": {},
    "OpenVINOExecutionProvider": {
        "device_type": "CPU",
        # OpenVINO's default is bfloat16 where the CPU supports it.
        "load_config": '{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}',
    },
    "XnnpackExecutionProvider": {},
}
"""Options that make an execution provider use IEEE float32 arithmetic, as the bound assumes."""
PROVIDER_SUFFIX = "ExecutionProvider"
IGNORED_PROVIDERS = ("CPUExecutionProvider", "AzureExecutionProvider")
"""Providers to skip: the optimisation levels cover the CPU, and Azure calls a remote server."""


def open_runtimes(
    model: bytes, module: torch.jit.ScriptModule, weights: Weights
) -> tuple[dict[str, Runtime], dict[str, str]]:
    """Return all runtimes by name, and the reason for each execution provider left out."""
    runtimes: dict[str, Runtime] = {SERVING_RUNTIME: Session(model).run}
    for level in onnxruntime.GraphOptimizationLevel.__members__:
        if level != SERVING_OPTIMIZATION_LEVEL:
            short = level.removeprefix("ORT_").removeprefix("ENABLE_").lower()
            runtimes[f"{SERVING_RUNTIME} {short}"] = Session(model, level=level).run
    left_out = {}
    for provider in onnxruntime.get_available_providers():
        if provider in IGNORED_PROVIDERS:
            continue
        if provider not in FLOAT32_PROVIDER_OPTIONS:
            left_out[provider] = "no known option selects IEEE float32 arithmetic"
            continue
        try:
            options = FLOAT32_PROVIDER_OPTIONS[provider]
            session = Session(model, provider=provider, provider_options=options)
            runtimes[f"{SERVING_RUNTIME} {provider.removesuffix(PROVIDER_SUFFIX)}"] = session.run
        except ArtifactError as error:
            left_out[provider] = str(error)
    names = list(OUTPUTS[task_of(weights)])
    runtimes["torchscript"] = torch_runtime(module, names)
    runtimes["eager"] = torch_runtime(net_from_weights(weights), names)
    return runtimes, left_out


def is_execution_provider(name: str) -> bool:
    """Return whether a runtime is an execution provider other than the CPU's."""
    return name.removeprefix(f"{SERVING_RUNTIME} ") + PROVIDER_SUFFIX in FLOAT32_PROVIDER_OPTIONS


def torch_runtime(module: torch.nn.Module, names: Sequence[str]) -> Runtime:
    """Return a function that evaluates a module, whose outputs have these names in order."""

    def run(x: Float32Array) -> Outputs:
        with torch.no_grad():
            outputs = module(torch.from_numpy(x))
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: value.numpy() for name, value in zip(names, values, strict=True)}

    return run
