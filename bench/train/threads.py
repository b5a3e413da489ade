"""Duration of a training step by the number of threads, over a grid of shapes."""

from itertools import product
from typing import Any

from rich.console import Console

from bench.train.worker import Worker

IN_FEATURES = (16, 64, 256, 1000, 4000)
HIDDEN_FEATURES = (16, 100, 512, 2048, 8192)
BATCH_ROWS = (16, 64, 256, 1024)
MAX_MULTIPLICATIONS = 1 << 31
"""Maximum number of multiplications of a forward pass; larger shapes are left out."""


def thread_grid(worker: Worker, console: Console) -> list[dict[str, Any]]:
    """Time a step of each shape on each number of threads; print the ratios to one thread."""
    shapes = []
    for in_features, hidden_features, batch in product(IN_FEATURES, HIDDEN_FEATURES, BATCH_ROWS):
        if batch * hidden_features * in_features <= MAX_MULTIPLICATIONS:
            shape = {"in_features": in_features, "hidden_features": hidden_features, "batch": batch}
            shapes.append(shape | worker.run("grid", **shape, rounds=3, seconds=0.03))
    counts = sorted({name for shape in shapes for name in shape["seconds"]} - {"plain"}, key=int)
    headings = "".join(f"{f'{count} threads':>11}" for count in counts)
    console.print(
        "duration of a step of in_features -> hidden -> 10, relative to one thread; "
        "plain: the plain loop on all cores; chosen: number of threads that a fit uses"
    )
    console.print(f" products parameters    in hidden batch      us{headings}{'plain':>11} chosen")
    for shape in sorted(shapes, key=lambda shape: shape["products"]):
        seconds = shape["seconds"]
        columns = "".join(
            f"{seconds[count] / seconds['1']:11.2f}" if count in seconds else " " * 11
            for count in (*counts, "plain")
        )
        console.print(
            f"{shape['products']:9.1e} {shape['parameters']:10} {shape['in_features']:5} "
            f"{shape['hidden_features']:6} {shape['batch']:5} {seconds['1'] * 1e6:7.0f}{columns} "
            f"{shape['chosen']:6}"
        )
    return shapes
