"""The rows that the repository ships: each study's quick size, computed by this very code, or `make test` fails."""

import pytest

from simulations.engine.evidence import QUICK, unpack
from simulations.engine.store import Store


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    """Folder of results."""
    out = tmp_path_factory.mktemp("shipped")
    unpack(QUICK, Store(out))
    return out
