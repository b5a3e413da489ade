"""service.dialects.native: the reply's shape by task."""

import numpy as np

from service.dialects import native
from service.predictor import Predictor
from tests.conftest import Made


def test_reply_of_no_rows(flowers: Made) -> None:
    """No rows have no predictions, and the reply keeps its shape."""
    predictor = Predictor(flowers.artifact)
    reply = native.reply(predictor.predict(np.zeros((0, 4), np.float32)), predictor.manifest)
    assert [] == reply["predictions"]
    assert (0, 3) == reply["probabilities"].shape


def test_feature_order_is_the_manifest_s(flowers: Made) -> None:
    """Records are laid out in the order of the network's columns, whatever theirs is."""
    names = [feature.name for feature in Predictor(flowers.artifact).manifest.features]
    record = {name: index for index, name in reversed(list(enumerate(names)))}
    body = str({"instances": [record]}).replace("'", '"').encode()
    assert [[0, 1, 2, 3]] == native.rows(body, native.JSON, Predictor(flowers.artifact).manifest).tolist()
