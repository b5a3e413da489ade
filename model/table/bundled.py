"""TODO: model.table.bundled."""

import numpy as np
import polars as pl


def load_bundled(name: str) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    if name == "synthetic":
        # The reference set-up fits N=64 rows of standard-normal noise, 1000 -> 100 -> 10: 64 of these 100 train.
        noise = np.random.default_rng(0).standard_normal((100, 1010))
        targets = tuple(f"y{i}" for i in range(10))
        return pl.DataFrame(
            noise, schema=[*(f"x{i}" for i in range(1000)), *targets]
        ).lazy(), targets
    from sklearn import datasets

    kwargs = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**kwargs)
    target = bunch.target
    if name in ("wine", "breast_cancer"):
        target = np.asarray(bunch.target_names)[target]
    frame = pl.LazyFrame(bunch.data, schema=[str(feature) for feature in bunch.feature_names])
    return frame.with_columns(pl.Series("target", target.tolist())), ("target",)
