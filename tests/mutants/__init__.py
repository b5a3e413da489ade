"""Mutants: artifacts with one error and a correct SHA256SUMS, which the checks must reject.

test_mutants.py uses two small networks; `pytest -m mutants tests/mutants` uses seven sizes.
"""

from tests.mutants import documents, faults, graph, script
from tests.mutants.subject import DoesNotApplyError, Mutant, Subject

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for mutant in (*graph.MUTANTS, *script.MUTANTS, *documents.MUTANTS, *faults.MUTANTS)
}
"""All mutants by name."""

__all__ = ["MUTANTS", "DoesNotApplyError", "Mutant", "Subject"]
