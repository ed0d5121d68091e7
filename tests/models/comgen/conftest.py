import cv2
import pytest

from models.comgen.components import Components
from models.data import NormalImages
from models.normals import ImageFormat, Normals
from models.progress import silent

from .toy import network, photo

IMAGES = 16


@pytest.fixture(scope="package")
def components() -> Components:
    """The toy product's, from 16 images."""
    return Components([network(photo(seed)[0]) for seed in range(IMAGES)], seed=0, progress=silent)


@pytest.fixture(scope="package")
def normals(tmp_path_factory: pytest.TempPathFactory) -> Normals:
    """The toy product's good images, the last ten held out."""
    folder = tmp_path_factory.mktemp("good")
    for seed in range(IMAGES + 10):
        cv2.imwrite(str(folder / f"{seed:02}.png"), photo(seed)[0][:, :, ::-1])
    paths = tuple(sorted(folder.iterdir()))
    images = [network(photo(seed)[0]) for seed in range(IMAGES + 10)]
    kept = NormalImages(paths[:IMAGES], paths[IMAGES:])
    return Normals(kept, images[:IMAGES], images[IMAGES:], ImageFormat(256, 256, 3, 8), "toy", ())
