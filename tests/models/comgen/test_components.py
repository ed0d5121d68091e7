import numpy as np
import torch

from models.comgen.components import Components
from models.comgen.shapes import overlap
from models.progress import silent

from .toy import network, photo


def test_each_part_of_an_image_that_was_not_learned_from_is_found_where_it_is(components: Components) -> None:
    picture, discs, plate = photo(100)
    found = components.find(network(picture))

    for truth in (discs, plate):
        best = max(
            np.bincount([item.component for item in found]).nonzero()[0],
            key=lambda number: overlap(
                np.any([item.mask for item in found if item.component == number], axis=0), truth
            ),
        )
        parts = np.any([item.mask for item in found if item.component == best], axis=0)
        assert overlap(parts, truth) > 0.8


def test_two_discs_are_two_instances_of_one_component(components: Components) -> None:
    picture, discs, _ = photo(101)
    found = components.find(network(picture))
    on_discs = [item for item in found if (item.mask & discs).sum() > 0.7 * item.mask.sum() > 200]

    assert len(on_discs) == 2
    assert on_discs[0].component == on_discs[1].component


def test_a_plate_of_either_colour_is_one_component_in_two_kinds(components: Components) -> None:
    seen = []
    for seed in (102, 103):
        picture, _, plate = photo(seed)
        seen += [item for item in components.find(network(picture)) if overlap(item.mask, plate) > 0.8]

    assert len(seen) == 2
    assert seen[0].component == seen[1].component
    assert seen[0].mode != seen[1].mode
    assert components.components[seen[0].component].modes == 2


def test_the_same_seed_finds_the_same(components: Components) -> None:
    again = Components([network(photo(seed)[0]) for seed in range(16)], seed=0, progress=silent)

    assert again.components == components.components


def test_a_bare_surface_has_no_components() -> None:
    noise = torch.Generator().manual_seed(0)
    images = [0.5 + 0.02 * torch.rand((1, 3, 256, 256), generator=noise) for _ in range(8)]
    bare = Components(images, seed=0, progress=silent)

    assert bare.components == ()
    assert bare.find(images[0]) == []


def test_images_of_one_colour_have_no_components_either() -> None:
    """Such an image is one superpixel: there are fewer than surfaces."""
    flat = [torch.full((1, 3, 256, 256), 0.4 + 0.01 * index) for index in range(10)]
    assert not Components(flat, seed=0, progress=silent).components


def test_a_scene_has_a_token_for_each_instance_with_its_box_and_mask(components: Components) -> None:
    image = network(photo(104)[0])
    instances = components.find(image)
    scene = components.scene(image, instances)

    assert scene.image.shape == (3, 64, 64)
    assert len(scene.tokens) == len(instances) > 2
    for token, instance in zip(scene.tokens, instances, strict=True):
        rows, columns = np.nonzero(instance.mask)
        assert token.box == (rows.min() / 256, columns.min() / 256, (rows.max() + 1) / 256, (columns.max() + 1) / 256)
        assert abs(token.mask.sum().item() * 16 - instance.mask.sum()) < 1
