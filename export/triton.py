"""config.pbtxt, with which NVIDIA Triton serves a folder of artifacts as a model repository."""

from service.artifact import manifest

TRITON_CONFIG = "config.pbtxt"
TRITON_TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}


def triton_config(name: str, task: str, in_features: int, out_features: int) -> bytes:
    """Return config.pbtxt for a model with this task and these numbers of features."""
    outputs = ",\n".join(
        f'  {{ name: "{output}" data_type: {TRITON_TYPES[dtype]} '
        f"dims: {[-1] if output == 'label' else [-1, out_features]} }}"
        for output, dtype in manifest.OUTPUTS[task].items()
    )
    return f"""name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: 0
input [
  {{ name: "{manifest.INPUT}" data_type: TYPE_FP32 dims: {[-1, in_features]} }}
]
output [
{outputs}
]
""".encode()
