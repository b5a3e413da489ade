"""Flask as its documentation shows it: request.get_json() and a dictionary as the response."""

from typing import Any

import numpy as np
import onnx_session
from flask import Flask, abort, request

session = onnx_session.load()
width = session.get_inputs()[0].shape[1]
app = Flask(__name__)


@app.post("/predict")
def predict() -> dict[str, Any]:
    """Return the predictions for rows."""
    try:
        rows = np.array(request.get_json()["instances"], np.float32)
    except (ValueError, TypeError, KeyError) as error:
        abort(422, str(error))
    if rows.ndim != 2 or rows.shape[1] != width:
        abort(422, f"expected rows of {width} values")
    probabilities, labels = session.run(["probabilities", "label"], {"input": rows})
    return {"predictions": labels.tolist(), "probabilities": probabilities.tolist()}
