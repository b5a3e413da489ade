"""BentoML as its documentation shows it: a service whose API annotates dtype and shape."""

from typing import Annotated, Any

import bentoml
import numpy as np
import onnx_session
from bentoml.validators import DType, Shape
from numpy.typing import NDArray

WIDTH = onnx_session.load().get_inputs()[0].shape[1]


@bentoml.service(workers=1)
class Network:
    """Service with one API."""

    def __init__(self) -> None:
        self.session = onnx_session.load()

    @bentoml.api
    def predict(
        self, instances: Annotated[NDArray[np.float32], DType("float32"), Shape((-1, WIDTH))]
    ) -> dict[str, Any]:
        """Return the predictions for rows."""
        probabilities, labels = self.session.run(["probabilities", "label"], {"input": instances})
        return {"predictions": labels.tolist(), "probabilities": probabilities.tolist()}
