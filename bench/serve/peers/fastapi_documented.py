"""FastAPI as its documentation shows it: Pydantic models for the bodies, `async def`."""

import numpy as np
import onnx_session
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

session = onnx_session.load()
width = session.get_inputs()[0].shape[1]
app = FastAPI()


class Instances(BaseModel):
    """Body of a request."""

    instances: list[list[float]]


class Predictions(BaseModel):
    """Body of a response."""

    predictions: list[int]
    probabilities: list[list[float]]


@app.post("/predict")
async def predict(body: Instances) -> Predictions:
    """Return the predictions for rows."""
    if any(len(row) != width for row in body.instances):
        raise HTTPException(422, f"expected rows of {width} values")
    rows = np.array(body.instances, np.float32)
    probabilities, labels = session.run(["probabilities", "label"], {"input": rows})
    return Predictions(predictions=labels.tolist(), probabilities=probabilities.tolist())
