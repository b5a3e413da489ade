"""Duration of a training step by the number of threads, over a grid of shapes."""

from dataclasses import asdict, dataclass
from itertools import product

from rich.console import Console

from bench.train.worker import Worker

IN_FEATURES = (16, 64, 256, 1000, 4000)
HIDDEN_FEATURES = (16, 100, 512, 2048, 8192)
BATCH_ROWS = (16, 64, 256, 1024)
MAX_MULTIPLICATIONS = 1 << 31
"""Maximum number of multiplications of a forward pass; larger shapes are left out."""
ROUNDS = 3
SECONDS_PER_ROUND = 0.03


@dataclass(frozen=True)
class Shape:
    """Results for one shape of network and batch."""

    in_features: int
    hidden_features: int
    batch: int
    """Rows per step."""
    seconds: dict[str, float]
    """Duration of a step by number of threads; `plain` is the plain loop on all cores."""
    chosen: int
    """Number of threads that `thread_count` chooses."""
    parameters: int
    products: int
    """Number of parameters times rows of the batch."""


def thread_grid(worker: Worker, console: Console) -> list[dict[str, object]]:
    """Time a step of each shape on each number of threads; print the ratios to one thread."""
    shapes = []
    for in_features, hidden_features, batch in product(IN_FEATURES, HIDDEN_FEATURES, BATCH_ROWS):
        if batch * hidden_features * in_features <= MAX_MULTIPLICATIONS:
            sizes = {"in_features": in_features, "hidden_features": hidden_features, "batch": batch}
            result = worker.run("grid", **sizes, rounds=ROUNDS, seconds=SECONDS_PER_ROUND)
            shapes.append(Shape(**sizes, **result))
    print_shapes(shapes, console)
    return [asdict(shape) for shape in shapes]


def print_shapes(shapes: list[Shape], console: Console) -> None:
    """Print a line per shape, the smallest first."""
    counts = sorted({name for shape in shapes for name in shape.seconds} - {"plain"}, key=int)
    headings = "".join(f"{f'{count} threads':>11}" for count in counts)
    console.print(
        "duration of a step of in_features -> hidden -> 10, relative to one thread; "
        "plain: the plain loop on all cores; chosen: number of threads that a fit uses"
    )
    console.print(
        f"{'products':>9} {'parameters':>10} {'in':>5} {'hidden':>6} {'batch':>5} {'us':>7}"
        f"{headings}{'plain':>11} chosen"
    )
    for shape in sorted(shapes, key=lambda shape: shape.products):
        one = shape.seconds["1"]
        columns = "".join(
            f"{shape.seconds[count] / one:11.2f}" if count in shape.seconds else " " * 11
            for count in (*counts, "plain")
        )
        console.print(
            f"{shape.products:9.1e} {shape.parameters:10} {shape.in_features:5} "
            f"{shape.hidden_features:6} {shape.batch:5} {one * 1e6:7.0f}{columns} {shape.chosen:6}"
        )
