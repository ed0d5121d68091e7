"""Methods to compare with, fitted in seconds or minutes: if one does as well, no more is needed. Know no test data."""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.comgen.examples import imagine
from models.coreset import greedy_coreset
from models.csda import Csda, image_score
from models.csda_fit import CsdaSchedule, fit_csda
from models.data import Image
from models.evaluate import Scored
from models.grid import GRID, NETWORK_SIDE
from models.loop import denormals_as_zero
from models.normals import Normals, as_network_image
from models.progress import Progress
from models.teacher import Lite0Teacher


class Thumbnail:
    """How far an image's 32 x 32 thumbnail is from the nearest good one's: no learning at all.

    A benchmark on which this does well is won by exposure or position, not by seeing defects.
    """

    SIDE = 32

    def __init__(self, normals: Normals) -> None:
        self._format = normals.format
        self._known = torch.cat([self._shrink(image) for image in normals.train])

    def __call__(self, image: Image) -> Scored:
        """The image score is the Euclidean distance, the map (32, 32) the absolute difference to the nearest one."""
        started = time.perf_counter()
        thumbnail = self._shrink(as_network_image(image, self._format))
        distances = (self._known - thumbnail).square().sum(dim=(1, 2, 3)).sqrt()
        nearest = self._known[distances.argmin()]
        anomaly_map = (thumbnail[0] - nearest).abs().mean(dim=0)
        return Scored(float(distances.min()), anomaly_map.numpy(), {}, _milliseconds_since(started))

    def _shrink(self, image: Tensor) -> Tensor:
        """(1, 3, 256, 256) -> (1, 3, 32, 32), each pixel the mean of its area."""
        return F.avg_pool2d(image, NETWORK_SIDE // self.SIDE)


class PatchCore:
    """PatchCore (Roth et al. 2022) on EfficientNet-Lite0: how far patches are from the nearest in a bank of good ones.

    As in the paper: features averaged over 3 x 3 neighbours, a greedy coreset of 10 %, the image score weighted by how
    crowded the bank is there (Eq 7, b = 9), the map blurred with a Gaussian of 4 pixels. The coreset is chosen among so
    many random patches that this stays a matter of a minute.
    """

    GRID = 32  # patches along a side
    CANDIDATES = 100_000
    CORESET_SHARE = 0.1
    NEIGHBOURS = 9
    BLUR = 4.0  # pixels of 256

    def __init__(self, normals: Normals, *, seed: int, progress: Progress) -> None:
        self._format = normals.format
        self._teacher = Lite0Teacher()
        random = torch.Generator().manual_seed(seed)
        candidates = self._candidates(normals.train, random, progress)
        count = max(self.NEIGHBOURS, round(self.CORESET_SHARE * len(candidates)))
        self._bank = candidates[greedy_coreset(candidates, count, random, progress)]

    @torch.inference_mode()
    def __call__(self, image: Image) -> Scored:
        """The image score is the furthest patch's weighted distance, the map (256, 256) the patches' distances."""
        started = time.perf_counter()
        patches = self._patches(as_network_image(image, self._format))
        distances, nearest = torch.cdist(patches, self._bank).min(dim=1)
        furthest = distances.argmax()
        score = float(distances[furthest] * self._weight(patches[furthest], self._bank[nearest[furthest]]))
        grid = distances.view(1, 1, self.GRID, self.GRID)
        full = F.interpolate(grid, size=(NETWORK_SIDE, NETWORK_SIDE), mode="bilinear", align_corners=False)
        anomaly_map = cv2.GaussianBlur(full[0, 0].numpy(), (0, 0), self.BLUR).astype(np.float32, copy=False)
        return Scored(score, anomaly_map, {}, _milliseconds_since(started))

    def _patches(self, image: Tensor) -> Tensor:
        """(1, 3, 256, 256) -> (GRID * GRID, C), each averaged with its neighbours inside the image."""
        features = F.adaptive_avg_pool2d(self._teacher(image), self.GRID)
        local = F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)
        return local.flatten(2)[0].T

    @torch.inference_mode()
    def _candidates(self, images: Sequence[Tensor], random: torch.Generator, progress: Progress) -> Tensor:
        """As many patches of each image, drawn at random, (n, C)."""
        each = max(1, min(self.GRID**2, self.CANDIDATES // len(images)))
        drawn = []
        for done, image in enumerate(images, start=1):
            drawn.append(self._patches(image)[torch.randperm(self.GRID**2, generator=random)[:each]])
            progress("learning features", done, len(images))
        return torch.cat(drawn)

    def _weight(self, patch: Tensor, nearest: Tensor) -> Tensor:
        """Eq 7: 1 - exp(d*) / sum of exp(d) over the b patches of the bank that are closest to the nearest one."""
        around = torch.cdist(nearest[None], self._bank)[0].topk(self.NEIGHBOURS, largest=False).indices
        others = torch.cdist(patch[None], self._bank[around])[0]
        own = (patch - nearest).norm()
        return 1 - torch.exp(own - torch.logsumexp(others, dim=0))


class CsdaAlone:
    """CSDA without the other scores, learned from one kind of made anomalies: what that kind is worth."""

    STEPS, ANOMALIES = 500, 400

    def __init__(self, normals: Normals, anomalies: str, *, seed: int, progress: Progress) -> None:
        """Learn from anomalies of a kind that `imagine` knows."""
        self._format = normals.format
        self._teacher = Lite0Teacher()
        self._region = torch.ones(1, 1, GRID, GRID)
        torch.manual_seed(seed)
        self._csda = Csda(self._teacher.scale_channels)
        schedule = CsdaSchedule(self.STEPS, seed)
        imagined = imagine(anomalies, normals, self.ANOMALIES, judges=0, seed=seed, store=None, progress=progress)
        with TemporaryDirectory(prefix="csda-") as work, denormals_as_zero():
            fit_csda(
                self._csda, self._teacher, normals.train, imagined.learn, self._region, schedule,
                checkpoint=Path(work) / "checkpoint.pt", key="", progress=progress,
            )  # fmt: skip

    @torch.inference_mode()
    def __call__(self, image: Image) -> Scored:
        """The image score is the mean of the highest logits, the map (64, 64) all of them."""
        started = time.perf_counter()
        logits = self._csda(self._teacher.scales(as_network_image(image, self._format)), self._region)[0]
        score = float(image_score(logits, self._region))
        return Scored(score, logits.numpy(), {}, _milliseconds_since(started))


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
