import pytest
import torch

from models.grid import GRID
from models.memory import SIDE, PatchMemory, inspected_patches, patches_of
from models.progress import silent

C = 6
EVERYWHERE = torch.ones(1, 1, GRID, GRID)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatchMemory, "COUNT", 2048)


def left_half() -> torch.Tensor:
    region = EVERYWHERE.clone()
    region[..., GRID // 2 :] = 0
    return region


def good(count: int, seed: int = 0) -> list[torch.Tensor]:
    """Patches of images that look now like this, now like that; the right half is now quiet, now not."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for index in range(count):
        noise = 0.1 * torch.randn(C, SIDE, SIDE, generator=generator)
        noise[..., SIDE // 2 :] *= 8 * torch.rand((), generator=generator)
        images.append((noise + (5 if index % 2 else -5)).flatten(1).T)
    return images


def filled(region: torch.Tensor = EVERYWHERE, count: int = 20) -> PatchMemory:
    memory = PatchMemory(C)
    memory.remember([patches.half() for patches in good(count)], region, 0, silent)
    return memory


def changed(patches: torch.Tensor, place: tuple[int, int], by: float) -> torch.Tensor:
    """3 x 3 patches from the place on, by so much."""
    image = patches.T.reshape(C, SIDE, SIDE).clone()
    image[:, place[0] : place[0] + 3, place[1] : place[1] + 3] += by
    return image.flatten(1).T


def test_the_distance_is_that_to_the_nearest_that_may_be_found() -> None:
    memory = PatchMemory(C)
    entries = torch.randn(memory.COUNT, C, generator=torch.Generator().manual_seed(0)).half()
    memory.patches.copy_(entries)
    memory.squares.copy_(entries.float().square().sum(dim=1))
    asked = torch.randn(50, C, generator=torch.Generator().manual_seed(1))
    each = torch.cdist(asked, entries.float()) / C**0.5
    assert torch.allclose(memory.distances(asked), each.amin(dim=1), atol=1e-3)
    hidden = torch.arange(memory.COUNT) % 2 == 0
    assert torch.allclose(memory.distances(asked, hidden), each[:, ~hidden].amin(dim=1), atol=1e-3)


def test_each_look_of_a_good_part_is_good_and_what_lies_between_is_not() -> None:
    memory = filled()
    usual = [memory(patches, EVERYWHERE) for patches in good(6, seed=1)]
    between = changed(good(2, seed=1)[1], (10, 4), -5)
    assert memory(between, EVERYWHERE) > max(usual) + 3


def test_a_place_that_varies_more_needs_a_larger_difference() -> None:
    memory, nothing = PatchMemory(C), torch.zeros(SIDE * SIDE, C)  # remembered are zeros alone
    memory.place_std[:, SIDE // 2 :] = 5
    calm, lively = (memory(changed(nothing, (10, column), 3), EVERYWHERE) for column in (4, 24))
    assert calm > lively > 0
    usual = filled().place_mean.exp()
    assert usual[:, SIDE // 2 + 1 :].mean() > 1.2 * usual[:, : SIDE // 2 - 1].mean()


def test_an_image_is_not_judged_by_its_own_patches() -> None:
    """Few images, all of whose patches are remembered: each would be at no distance."""
    memory = filled(count=4)
    assert memory.place_mean.exp().min() > 0.05


def test_images_without_noise_have_a_scale_too() -> None:
    memory = PatchMemory(C)
    memory.remember([torch.zeros(SIDE * SIDE, C).half()] * 12, EVERYWHERE, 0, silent)
    same = memory(torch.zeros(SIDE * SIDE, C), EVERYWHERE)
    assert same.isfinite()
    assert memory(changed(torch.zeros(SIDE * SIDE, C), (10, 4), 0.1), EVERYWHERE) > same + 3


def test_what_is_not_inspected_is_neither_remembered_nor_judged() -> None:
    memory, patches = filled(left_half()), good(2, seed=1)[1]
    assert memory(changed(patches, (10, 24), 50), left_half()) == memory(patches, left_half())
    assert memory(changed(patches, (10, 12), 50), left_half()) > memory(patches, left_half()) + 5
    right = inspected_patches(EVERYWHERE - left_half()).flatten().bool()
    images = [patches.clone() for patches in good(12)]
    for image in images:
        image[right] = 100
    memory.remember([image.half() for image in images], left_half(), 0, silent)
    assert memory.patches.abs().max() < 10


def test_patches_are_means_of_the_inspected_cells_about_them() -> None:
    features = torch.zeros(1, C, GRID, GRID)
    features[:, 0, 20:22, 30:32] = 9
    image = patches_of(features, EVERYWHERE).T.reshape(C, SIDE, SIDE)
    assert torch.allclose(image[0, 9:12, 14:17], torch.ones(3, 3))
    assert image.sum().item() == pytest.approx(9)
    ones = torch.ones(1, C, GRID, GRID)
    ones[..., GRID // 2 :] = 100
    inspected = patches_of(ones, left_half()).T.reshape(C, SIDE, SIDE)[..., : SIDE // 2]
    assert torch.allclose(inspected, torch.ones(C, SIDE, SIDE // 2))
