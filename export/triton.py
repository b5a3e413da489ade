"""TODO: export.triton."""

from service.artifact import manifest

TRITON_CONFIG = "config.pbtxt"


def triton_config(name: str, task: str, in_features: int, out_features: int) -> bytes:
    """Return config.pbtxt, with which artifacts/ is a model repository for NVIDIA Triton."""
    types = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}
    outputs = ",\n".join(
        f'  {{ name: "{output}" data_type: {types[dtype]} dims: {[-1] if output == "label" else [-1, out_features]} }}'
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
