"""BentoML as its documentation shows it: a service class, an API whose array is annotated with its type and shape."""

from typing import Annotated, Any

import bentoml
import numpy as np
import onnx_session
from bentoml.validators import DType, Shape
from numpy.typing import NDArray

WIDTH = onnx_session.load().get_inputs()[0].shape[1]


@bentoml.service(workers=1)
class Network:
    """The model behind one address."""

    def __init__(self) -> None:
        self.session = onnx_session.load()

    @bentoml.api
    def predict(
        self, instances: Annotated[NDArray[np.float32], DType("float32"), Shape((-1, WIDTH))]
    ) -> dict[str, Any]:
        """Answer rows of numbers."""
        probabilities, labels = self.session.run(["probabilities", "label"], {"input": instances})
        return {"predictions": labels.tolist(), "probabilities": probabilities.tolist()}
