"""Mutants: artifacts that are wrong in one way, re-packed, which the checks must reject.

`test_mutants.py` sweeps two small networks, `pytest -m mutants tests/mutants` seven of all widths.
"""

from tests.mutants import documents, faults, graph, script
from tests.mutants.subject import DoesNotApplyError, Mutant, Subject

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for mutant in (*graph.MUTANTS, *script.MUTANTS, *documents.MUTANTS, *faults.MUTANTS)
}
"""By name: every mutant that no hash can see."""

__all__ = ["MUTANTS", "DoesNotApplyError", "Mutant", "Subject"]
