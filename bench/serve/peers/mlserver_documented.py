"""MLServer as its documentation shows it: a custom runtime with the NumPy codec."""

import onnx_session
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Network(MLModel):
    """Runtime that serves the Open Inference Protocol."""

    async def load(self) -> bool:
        """Load the model."""
        self.session = onnx_session.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return the predictions for rows."""
        rows = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        probabilities, labels = self.session.run(["probabilities", "label"], {"input": rows})
        outputs = [
            NumpyCodec.encode_output("probabilities", probabilities),
            NumpyCodec.encode_output("label", labels),
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
