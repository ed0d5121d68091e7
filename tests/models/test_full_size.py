from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from models.comgen.editing import Editor
from models.comgen.full_size import StableDiffusion
from models.comgen.learning import DenoiserSettings, learn_components
from models.comgen.scene import Scene
from models.data import DataError
from models.progress import silent

from .disc_scenes import disc, disc_scenes

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion of a few random weights, with pictures of 128 x 128 and latents of 16 x 16."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    where = tmp_path_factory.mktemp("stable-diffusion")
    UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    ).save_pretrained(where / "unet")
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4,) * 4,
        latent_channels=4,
        norm_num_groups=2,
    ).save_pretrained(where / "vae")
    DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1).save_pretrained(where / "scheduler")
    return where


def scene_of_128() -> Scene:
    scene = disc_scenes(1)[0][0]
    return Scene(F.interpolate(scene.image[None], scale_factor=2)[0], scene.tokens)


def test_words_are_learned_and_the_rest_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = StableDiffusion(folder, components=2, modes=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    settings = DenoiserSettings(steps=2, batch=2)
    learn_components(
        network, [scene_of_128()], [], settings=settings, checkpoint=tmp_path / "c.pt", key="", progress=silent
    )
    changed = {name.partition(".")[0] for name, value in network.state_dict().items() if not value.equal(before[name])}
    assert changed == {"vocabulary"}


def test_it_edits_as_the_compact_one_does(folder: Path) -> None:
    torch.manual_seed(0)
    network = StableDiffusion(folder, components=2, modes=2)
    scene, region = scene_of_128(), torch.zeros(64, 64)
    region[:, :32] = 1
    edited = Editor(network, steps=3).edit(scene.image, scene.tokens, (disc(0, 1, 30, 16),), region, seed=0)
    assert edited.generated.shape == (3, 128, 128)
    assert edited.attention_before.shape == (2, 64, 64)
    assert torch.equal(edited.generated[..., 66:], scene.image[..., 66:])
    assert not torch.equal(edited.generated[..., :32], edited.reconstructed[..., :32])


def test_a_folder_that_lacks_a_part_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    with pytest.raises(DataError, match="has no vae and no scheduler: give the folder of a Stable Diffusion"):
        StableDiffusion(tmp_path, 1, 1)


def test_a_part_that_cannot_be_read_is_an_error(folder: Path, tmp_path: Path) -> None:
    for part in ("unet", "vae", "scheduler"):
        (tmp_path / part).mkdir()
    (tmp_path / "unet/config.json").write_text((folder / "unet/config.json").read_text())
    with pytest.raises(DataError, match="holds no Stable Diffusion that can be read"):
        StableDiffusion(tmp_path, 1, 1)
