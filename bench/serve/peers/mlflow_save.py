"""Save the model as MLflow's documentation shows it, with a signature of its input.

python mlflow_save.py FOLDER
"""

import os
import sys

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

model = onnx.load(os.environ["BENCH_MODEL"])
width = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
mlflow.onnx.save_model(
    model,
    sys.argv[1],
    signature=ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, width))])),
    onnx_session_options={"intra_op_num_threads": 1},
    onnx_execution_providers=["CPUExecutionProvider"],
    save_as_external_data=False,
)
