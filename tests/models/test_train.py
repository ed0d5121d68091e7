import torch

from models.train import evenly


def test_all_images_calibrate_when_they_are_few() -> None:
    images = [torch.tensor(index) for index in range(275)]
    assert evenly(images, 400) == images


def test_of_many_images_just_so_many_calibrate_from_all_over() -> None:
    chosen = [int(image) for image in evenly([torch.tensor(index) for index in range(1000)], 400)]
    assert len(set(chosen)) == 400
    assert (chosen[0], chosen[-1]) == (0, 999)
