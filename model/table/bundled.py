"""The bundled data sets: four of scikit-learn's, and random numbers for the reference problem."""

import numpy as np
import polars as pl


def load_bundled(name: str) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    """Return the frame of a data set in BUNDLED_DATASETS, and the names of its target columns."""
    if name == "synthetic":
        # The reference problem fits 64 rows of standard-normal noise, 1000 -> 100 -> 10 features.
        # Of 100 rows, the split uses 64 for training.
        noise = np.random.default_rng(0).standard_normal((100, 1010))
        targets = tuple(f"y{i}" for i in range(10))
        schema = [*(f"x{i}" for i in range(1000)), *targets]
        return pl.LazyFrame(noise, schema=schema), targets
    from sklearn import datasets

    kwargs = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**kwargs)
    target = bunch.target
    if name in ("wine", "breast_cancer"):
        target = np.asarray(bunch.target_names)[target]
    frame = pl.LazyFrame(bunch.data, schema=[str(feature) for feature in bunch.feature_names])
    return frame.with_columns(pl.Series("target", target.tolist())), ("target",)
