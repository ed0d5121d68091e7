"""Draws the golden frames, builds the tiny bundle, and records what the loop decides today: `python make_golden.py`.

Run it only when a change of the golden decisions is meant, and read the difference before it is kept.
"""

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
from replay import replay

HERE = Path(__file__).parent
TINY = runpy.run_path(str(HERE.parent / "inspector" / "tiny.py"))


def draw(folder: Path) -> None:
    """Draw parts of one grey with a soft shine and noise; some with a scratch, a stain, a hole, or no picture."""
    random = np.random.default_rng(7)
    rows, columns = np.mgrid[:32, :32]
    for number, fault in enumerate(["none", "scratch", "none", "stain", "hole", "none", "faint"]):
        shine = 6 * np.exp(-((rows - 10) ** 2 + (columns - 20) ** 2) / 90)
        image = np.repeat((100 + shine + random.normal(0, 2, (32, 32)))[:, :, None], 3, axis=2)
        if fault == "scratch":
            image[abs(rows - columns) < 2] = 235
        if fault == "stain":
            image[(rows - 20) ** 2 + (columns - 9) ** 2 < 30] = (120, 20, 10)
        if fault == "hole":
            image[18:26, 4:12] = 5
        if fault == "faint":
            image[4:8, 4:8] += 30
        TINY["write_image"](folder / f"{number:02d}_{fault}.png", np.clip(image.round(), 0, 255).astype(np.uint8))
    whole = (folder / "00_none.png").read_bytes()
    (folder / "07_cut_short.png").write_bytes(whole[: len(whole) // 2])
    TINY["write_image"](folder / "08_too_small.png", np.full((16, 32, 3), 100, np.uint8))
    TINY["write_image"](folder / "09_grey.png", np.full((32, 32, 1), 104, np.uint8))


if __name__ == "__main__":
    for name in ("frames", "bundle"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    (HERE / "frames").mkdir()
    draw(HERE / "frames")
    TINY["build_bundle"](HERE / "bundle")
    decisions = replay(HERE / "frames", HERE / "bundle")
    (HERE / "golden.json").write_text(json.dumps(decisions, indent=1) + "\n", encoding="utf-8")
