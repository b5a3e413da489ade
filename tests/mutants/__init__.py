"""The mutant kit: artifacts that are wrong in one way, re-packed, and the checks that must tell.

`tests/test_mutants.py` sweeps two networks, `bench/proof.py` many.
"""

from tests.mutants import faults, graph, papers, script
from tests.mutants.subject import DoesNotApplyError, Mutant, Subject

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for mutant in (*graph.MUTANTS, *script.MUTANTS, *papers.MUTANTS, *faults.MUTANTS)
}
"""Every mutant but those that a hash catches, by name."""

__all__ = ["MUTANTS", "DoesNotApplyError", "Mutant", "Subject"]
