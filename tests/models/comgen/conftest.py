import pytest

from models.comgen.components import Components
from models.progress import silent

from .toy import network, photo

IMAGES = 16


@pytest.fixture(scope="package")
def components() -> Components:
    """The toy product's, from 16 images."""
    return Components([network(photo(seed)[0]) for seed in range(IMAGES)], seed=0, progress=silent)
