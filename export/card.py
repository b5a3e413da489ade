"""The model card: README.md of an artifact, with the metadata header of the Hugging Face hub."""

import json

from export.proof.prove import Proof
from service.artifact.manifest import OUTPUTS, Manifest


def card(manifest: Manifest, proof: Proof) -> bytes:
    """Return README.md: the network, its metrics, how to run it, and what was proved."""
    tag = f"tabular-{manifest.task}"
    names = ", ".join(json.dumps(name, ensure_ascii=False) for name in manifest.classes)
    worst = max(figures.max_error_over_bound for figures in proof.runtimes.values())
    return f"""---
pipeline_tag: {tag}
library_name: onnx
tags: [{tag}, onnx, torchscript]
---
# {manifest.name}, version {manifest.version}

A two-layer network (Linear, ReLU, Linear): {manifest.task} of {", ".join(manifest.targets)} from
{len(manifest.features)} features.{f" Classes, in this order: {names}." if names else ""}

{_metrics(manifest)}

![Loss against epoch](curves.png)

## Use

{_usage(manifest)}
## Proof

`model.onnx` and `model.torchscript.pt` hold the trained weights bit for bit. On {proof.rows} rows chosen
to be hard, every answer lay within the derived rounding bound of the network evaluated in float64 (the worst at
{worst:.2g} of it); {proof.rows_out_of_range} more may overflow float32, where no bound speaks.
Runtimes asked: {", ".join(proof.runtimes)}.
`golden.json` lets any runtime repeat a part of that, and `sha256sum -c SHA256SUMS` checks the files.
`python -m export verify .` proves it all again on your machine.

![Error against bound](proof.png)

## Features

{_features(manifest)}
""".encode()  # noqa: E501 # lines of a Markdown file


def _metrics(manifest: Manifest) -> str:
    parts = dict(manifest.metrics)
    parts |= {f"{name} baseline, test": values for name, values in manifest.baselines.items()}
    columns = list(manifest.metrics["test"])
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for part, values in parts.items():
        lines.append(f"| {part} | {' | '.join(f'{values[column]:.4g}' for column in columns)} |")
    return "\n".join(lines)


def _usage(manifest: Manifest) -> str:
    width = len(manifest.features)
    return f"""`model.onnx` takes `input`, float32 `[batch, {width}]`, raw feature values in the order below,
and gives {", ".join(f"`{name}`" for name in OUTPUTS[manifest.task])}. Scaling is a part of the graph.

In this folder, with this project installed:

    python -m service serve .
    curl http://127.0.0.1:8000/predict -d @example.json

In Python, without it:

    import os
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reports home unless told not to
    import numpy, onnxruntime
    session = onnxruntime.InferenceSession("model.onnx")
    session.run(None, {{"input": numpy.zeros((1, {width}), numpy.float32)}})
"""  # noqa: E501 # lines of a Markdown file


def _features(manifest: Manifest) -> str:
    lines = ["| name | kind | min | median | max |", "|---|---|---:|---:|---:|"]
    for f in manifest.features:
        name = f.name.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {name} | {f.kind} | {f.min:.6g} | {f.median:.6g} | {f.max:.6g} |")
    return "\n".join(lines)
