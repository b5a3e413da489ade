"""The runtimes of this machine that the proof asks: by name, a function from rows to outputs.

The session that serves comes first; beside it ONNX Runtime at every other level of graph optimisation and on every
other execution provider that is installed, TorchScript, and the eager network.
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
Runtime = Callable[[Float32Array], Outputs]
SERVING_RUNTIME = "onnxruntime"
"""The name of the session that serves: the CPU, at the level of graph optimisation that is ONNX Runtime's default."""
SERVING_OPTIMIZATION_LEVEL = "ORT_ENABLE_ALL"
FLOAT32_PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    "CUDAExecutionProvider": {"use_tf32": "0"},
    "DnnlExecutionProvider": {},
    "OpenVINOExecutionProvider": {
        "device_type": "CPU",
        # by itself it may take bfloat16 where the CPU has it
        "load_config": '{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}',
    },
    "XnnpackExecutionProvider": {},
}
"""By execution provider: the options with which it computes in IEEE float32, which the bound is about."""
PROVIDER_SUFFIX = "ExecutionProvider"
REMOTE_PROVIDER = "AzureExecutionProvider"
"""Part of the usual package; it sends rows to a server and computes nothing itself."""


def open_runtimes(
    model: bytes, module: torch.jit.ScriptModule, weights: Weights
) -> tuple[dict[str, Runtime], dict[str, str]]:
    """Open every runtime; return them by name, and the providers left out with the reason.

    Args:
        model: the bytes of model.onnx.
        module: model.torchscript.pt, loaded.
        weights: the tensors of the run, for the eager network.
    """
    names, net = list(OUTPUTS[task_of(weights)]), net_from_weights(weights)
    found: dict[str, Runtime] = {SERVING_RUNTIME: Session(model).run}
    for level in onnxruntime.GraphOptimizationLevel.__members__:
        if level != SERVING_OPTIMIZATION_LEVEL:
            short = level.removeprefix("ORT_").removeprefix("ENABLE_").lower()
            found[f"{SERVING_RUNTIME} {short}"] = Session(model, level=level).run
    left_out = {}
    for provider in onnxruntime.get_available_providers():
        if provider in ("CPUExecutionProvider", REMOTE_PROVIDER):
            continue
        if provider not in FLOAT32_PROVIDER_OPTIONS:
            left_out[provider] = "no option is known here that holds it to IEEE float32"
            continue
        try:
            session = Session(
                model, provider=provider, provider_options=FLOAT32_PROVIDER_OPTIONS[provider]
            )
            found[f"{SERVING_RUNTIME} {provider.removesuffix(PROVIDER_SUFFIX)}"] = session.run
        except ArtifactError as error:
            left_out[provider] = str(error)
    found["torchscript"] = lambda x: _torch_outputs(module, names, x)
    found["eager"] = lambda x: _torch_outputs(net, names, x)
    return found, left_out


def is_execution_provider(name: str) -> bool:
    """Tell an execution provider beside the CPU's by the name of its runtime."""
    return name.removeprefix(f"{SERVING_RUNTIME} ") + PROVIDER_SUFFIX in FLOAT32_PROVIDER_OPTIONS


def _torch_outputs(module: torch.nn.Module, names: Sequence[str], x: Float32Array) -> Outputs:
    with torch.no_grad():
        out = module(torch.from_numpy(x))
    values = out if isinstance(out, tuple) else (out,)
    return {name: value.numpy() for name, value in zip(names, values, strict=True)}
