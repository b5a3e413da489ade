"""FastAPI without Pydantic: orjson parses the raw body and writes a plain Response."""

import numpy as np
import onnx_session
import orjson
from fastapi import FastAPI, Request, Response

session = onnx_session.load()
width = session.get_inputs()[0].shape[1]
app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> Response:
    """Return the predictions for rows."""
    try:
        rows = np.asarray(orjson.loads(await request.body())["instances"], np.float32)
    except (ValueError, TypeError, KeyError) as error:
        return Response(orjson.dumps({"detail": str(error)}), 422, media_type="application/json")
    if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
        detail = f"expected rows of {width} finite values"
        return Response(orjson.dumps({"detail": detail}), 422, media_type="application/json")
    probabilities, labels = session.run(["probabilities", "label"], {"input": rows})
    document = {"predictions": labels, "probabilities": probabilities}
    content = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, media_type="application/json")
