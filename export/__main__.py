"""`python -m export build`: prove a run and publish it as the next version of its artifact."""

import time
from pathlib import Path
from typing import Any

import click

from export import ProofError
from model.console import Commands
from service.manifest import ArtifactError


class ProvingCommands(Commands):
    """Commands that end with exit code 1 where a proof fails."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, turning a failed proof into its one line."""
        try:
            return super().invoke(ctx)
        except (ProofError, ArtifactError) as error:
            raise click.ClickException(f"not published: {error}") from None  # exit code 1


@click.group(cls=ProvingCommands, context_settings={"show_default": True, "max_content_width": 110})
def main() -> None:
    """Turn a run into an artifact that carries its own proof."""


@main.command()
@click.argument("run", required=False)
@click.option("--runs", default="runs", type=click.Path(path_type=Path, file_okay=False), help="Where runs are kept.")
@click.option(
    "--artifacts",
    default="artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where artifacts are published.",
)
def build(run: str | None, runs: Path, artifacts: Path) -> None:
    """Export RUN (by default the newest complete one) to ONNX and TorchScript, prove both, publish."""
    import torch  # takes seconds, and here Ctrl-C is understood

    from export import bundle
    from model import checkpoint

    started = time.perf_counter()
    torch.set_num_threads(1)  # the networks are small: more threads only wait for each other
    loaded = checkpoint.load(checkpoint.find(run) if run else checkpoint.newest(runs))
    click.echo(f"exporting {loaded.path} to ONNX and TorchScript ...")
    published = bundle.build(loaded, artifacts)
    if not published.new:
        click.echo(f"already published as {published.path}; digest {published.digest}")
        return
    click.echo(f"{published.proof['structure']}")
    for name, worst in published.proof["max_error_over_bound"].items():
        click.echo(f"  {name:<12} {published.proof['rows']} hard rows: worst error {worst:.2g} of its bound")
    click.echo(f"published {published.path} in {time.perf_counter() - started:.1f} s; digest {published.digest}")


if __name__ == "__main__":
    main(prog_name="python -m export")
