"""The model card: README.md of an artifact, with the header that the Hugging Face hub reads."""

import json

from service.artifact.manifest import OUTPUTS, Manifest


def card(manifest: Manifest) -> bytes:
    """Describe an artifact for a person who finds the folder: what it is, how good, how to run it."""
    tag = "tabular-classification" if manifest.task == "classification" else "tabular-regression"
    parts = dict(manifest.metrics)
    parts |= {f"{name} baseline, test": values for name, values in manifest.baselines.items()}
    columns = list(manifest.metrics["test"])
    metrics = [
        f"| | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
        *(
            f"| {part} | {' | '.join(f'{values[c]:.4g}' for c in columns)} |"
            for part, values in parts.items()
        ),
    ]
    features = [
        f"| {_cell(f.name)} | {f.kind} | {f.min:.6g} | {f.median:.6g} | {f.max:.6g} |"
        for f in manifest.features
    ]
    answers = ", ".join(f"`{name}`" for name in OUTPUTS[manifest.task])
    classes = f" Classes, in this order: {', '.join(json.dumps(c, ensure_ascii=False) for c in manifest.classes)}."
    worst = max(figures["max_error_over_bound"] for figures in manifest.proof["runtimes"].values())
    return f"""---
pipeline_tag: {tag}
library_name: onnx
tags: [{tag}, onnx, torchscript]
---
# {manifest.name}, version {manifest.version}

A two-layer network (Linear, ReLU, Linear): {manifest.task} of {", ".join(manifest.targets)} from
{len(manifest.features)} features.{classes if manifest.classes else ""}

{chr(10).join(metrics)}

![Loss against epoch](curves.png)

## Use

`model.onnx` takes `input`, float32 `[batch, {len(manifest.features)}]`, raw feature values in the order below,
and gives {answers}. Scaling is a part of the graph.

In this folder, with this project installed:

    python -m service serve .
    curl http://127.0.0.1:8000/predict -d @example.json

In Python, without it:

    import os
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reports home unless told not to
    import numpy, onnxruntime
    session = onnxruntime.InferenceSession("model.onnx")
    session.run(None, {{"input": numpy.zeros((1, {len(manifest.features)}), numpy.float32)}})

## Proof

`model.onnx` and `model.torchscript.pt` hold the trained weights bit for bit. On {manifest.proof["rows"]} rows chosen
to be hard, every answer lay within the derived rounding bound of the network evaluated in float64 (the worst at
{worst:.2g} of it); {manifest.proof["rows_out_of_range"]} more may overflow float32, where no bound speaks.
Runtimes asked: {", ".join(manifest.proof["runtimes"])}.
`golden.json` lets any runtime repeat a part of that, and `sha256sum -c SHA256SUMS` checks the files.
`python -m export verify .` proves it all again on your machine.

![Error against bound](proof.png)

## Features

| name | kind | min | median | max |
|---|---|---:|---:|---:|
{chr(10).join(features)}
""".encode()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
