"""FastAPI as its documentation shows it: a Pydantic model for the body and one for the reply, `async def`."""

import numpy as np
import onnx_session
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

session = onnx_session.load()
width = session.get_inputs()[0].shape[1]
app = FastAPI()


class Instances(BaseModel):
    """What is sent."""

    instances: list[list[float]]


class Predictions(BaseModel):
    """What is answered."""

    predictions: list[int]
    probabilities: list[list[float]]


@app.post("/predict")
async def predict(body: Instances) -> Predictions:
    """Answer rows of numbers."""
    if any(len(row) != width for row in body.instances):
        raise HTTPException(422, f"expected rows of {width} values")
    rows = np.array(body.instances, np.float32)
    probabilities, labels = session.run(["probabilities", "label"], {"input": rows})
    return Predictions(predictions=labels.tolist(), probabilities=probabilities.tolist())
