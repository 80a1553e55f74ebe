"""The rows that figures are drawn from."""

import pytest

from simulations.engine.evidence import FULL, QUICK, unpack
from simulations.engine.store import Store


@pytest.fixture(scope="session")
def both_sizes(tmp_path_factory):
    """Folder of results: the quick size of all studies, and the full size of those that ship it."""
    out = tmp_path_factory.mktemp("both_sizes")
    for evidence in (QUICK, FULL):
        unpack(evidence, Store(out))
    return out
