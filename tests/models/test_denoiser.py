from pathlib import Path

import numpy as np
import pytest
import torch

from models import loop
from models.checkpoint import Checkpoint
from models.comgen.denoiser import Denoiser
from models.comgen.learning import DenoiserSettings, Learner, attention_error, train_denoiser
from models.comgen.tokens import batch
from models.progress import silent

from .disc_scenes import disc, disc_scenes

SETTINGS = DenoiserSettings(steps=4, batch=2)


class KilledError(Exception):
    """Stands for a SIGKILL between two steps."""


@pytest.fixture(autouse=True)
def tiny(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setattr("models.comgen.denoiser.CHANNELS", (8, 16, 16))


def learner(settings: DenoiserSettings = SETTINGS) -> Learner:
    torch.manual_seed(0)
    return Learner(Denoiser(2, 2), *disc_scenes(8), settings)


def trained(
    checkpoint: Path, settings: DenoiserSettings = SETTINGS, *, killed_after: int | None = None
) -> dict[str, torch.Tensor]:
    def progress(stage: str, done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if done == killed_after:
            raise KilledError

    scenes, erased = disc_scenes(4)
    denoiser = train_denoiser(
        scenes, erased, components=2, modes=2, settings=settings, checkpoint=checkpoint, key="key", progress=progress
    )
    return denoiser.state_dict()


def test_velocity_has_the_pictures_shape_and_attention_is_shared_out_among_the_words() -> None:
    torch.manual_seed(0)
    prompts = batch([[disc(0, 1, 30, 16), disc(1, 0, 30, 46)], []])
    velocity, maps = Denoiser(2, 2)(torch.randn(2, 3, 64, 64), torch.tensor([10, 900]), prompts)
    assert velocity.shape == (2, 3, 64, 64)
    assert sorted({tuple(item.shape) for item in maps}) == [(2, 17, 16, 16), (2, 17, 32, 32)]
    for item in maps:
        assert torch.allclose(item.sum(dim=1), torch.ones_like(item[:, 0]), atol=1e-5)
        assert item[0, 3:].max() < 1e-6  # no such tokens
        assert item[1, 1:].max() < 1e-6
        assert item[0, 1:3].min() > 0


def test_the_loss_goes_down_and_attention_finds_the_discs() -> None:
    learning = learner(DenoiserSettings(steps=20, batch=2, learning_rate=3e-3))
    sample = learning.sample(np.random.default_rng(9))

    def judged() -> tuple[float, float]:
        with torch.no_grad():
            _, maps = learning.network(sample.latent, torch.full((2,), 300), sample.prompts)
            loss = learning.loss(sample, np.random.default_rng(9))
            return loss.item(), attention_error(maps, sample.prompts).item()

    before = judged()
    for step in range(20):
        learning.step(step)
    after = judged()
    assert after[0] < 0.7 * before[0]
    assert after[1] < 0.8 * before[1]


def test_a_killed_training_goes_on_to_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(tmp_path / "whole.pt")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "REPORT_STEPS", 1)
    with pytest.raises(KilledError):
        trained(tmp_path / "killed.pt", killed_after=3)
    stored = Checkpoint.load(tmp_path / "killed.pt", "key")
    assert stored is not None
    assert stored.step == 2  # the third was done, but not yet saved
    resumed = trained(tmp_path / "killed.pt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_slow_copy_is_kept(tmp_path: Path) -> None:
    settings = DenoiserSettings(steps=12, batch=1)
    averaged = trained(tmp_path / "a.pt", settings)
    stored = Checkpoint.load(tmp_path / "a.pt", "key")
    assert stored is not None
    assert settings.decay == pytest.approx(0.5)
    assert not torch.equal(averaged["network.conv_in.weight"], stored.state["learned"]["network.conv_in.weight"])
    assert torch.equal(averaged["network.conv_in.weight"], stored.state["slow"]["module.network.conv_in.weight"])


def test_three_in_ten_pictures_lack_a_component_and_its_token() -> None:
    learning = learner(DenoiserSettings(steps=4, batch=300, union_share=0))
    sample = learning.sample(np.random.default_rng(0))
    tokens = sample.prompts.present.sum(dim=1)
    assert (tokens == 1).float().mean() == pytest.approx(0.3, abs=0.08)
    lacking = sample.latent[tokens == 1]
    discs = ((lacking - lacking[:, :, :1, :1]).abs().amax(dim=1) > 0.1).sum(dim=(1, 2))
    assert discs.max() < 300  # one disc, not two
    assert sample.weight.min() == 1


def test_without_erased_scenes_all_pictures_are_whole() -> None:
    scenes, _ = disc_scenes(3)
    learning = Learner(Denoiser(2, 2), scenes, [], DenoiserSettings(steps=4, batch=50, union_share=0))
    assert (learning.sample(np.random.default_rng(0)).prompts.present.sum(dim=1) == 2).all()


def test_half_of_the_pictures_are_not_told_where() -> None:
    prompts = learner(DenoiserSettings(steps=4, batch=300)).sample(np.random.default_rng(0)).prompts
    assert prompts.boxed.any(dim=1).float().mean() == pytest.approx(0.5, abs=0.08)


def test_union_sampling_judges_where_the_tokens_it_tells_of_are() -> None:
    learning = learner(DenoiserSettings(steps=4, batch=200, erased_share=0, union_share=1))
    sample = learning.sample(np.random.default_rng(0))
    tokens = sample.prompts.present.sum(dim=1)
    assert set(tokens.tolist()) == {1, 2}
    told = sample.weight[tokens == 1]
    area = disc(0, 0, 30, 16).mask.sum().item()
    assert told.sum(dim=(1, 2, 3))[: len(told) // 2].tolist() == pytest.approx([area] * (len(told) // 2))


def test_what_lies_outside_of_the_union_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    learning = learner(DenoiserSettings(steps=4, batch=4, erased_share=0, union_share=1, attention_weight=0))
    sample = learning.sample(np.random.default_rng(1))
    predicted = torch.zeros_like(sample.latent, requires_grad=True)
    maps = [torch.zeros(4, 17, 16, 16)]
    monkeypatch.setattr(Denoiser, "forward", lambda *_: (predicted, maps))
    learning.loss(sample, np.random.default_rng(1)).backward()
    assert predicted.grad is not None
    judged = (sample.weight > 0).expand_as(predicted)
    assert (predicted.grad[~judged] == 0).all()
    assert (predicted.grad[judged] != 0).float().mean() > 0.9


def test_importance_is_min_snr_of_a_velocity() -> None:
    learning = learner()
    alpha = learning.network.schedule.alphas_cumprod
    clear, even = 5, int((alpha - 0.5).abs().argmin())
    importance = learning.importance(torch.tensor([clear, even, 999]))
    ratio = float(alpha[clear] / (1 - alpha[clear]))
    assert importance[0] == pytest.approx(5 / (ratio + 1), rel=1e-4)
    assert importance[1] == pytest.approx(0.5, abs=0.01)
    assert importance[2] < 1e-4


def test_attention_on_its_masks_has_no_error_and_elsewhere_it_has() -> None:
    prompts = batch([[disc(0, 1, 30, 16), disc(1, 0, 30, 46)]])
    perfect = torch.cat([1 - prompts.mask.sum(dim=1, keepdim=True), prompts.mask], dim=1)
    assert attention_error([perfect], prompts) < 1e-5
    assert attention_error([torch.full((1, 17, 64, 64), 1 / 3)], prompts) == pytest.approx(np.log(3))
    swapped = perfect[:, [0, 2, 1, *range(3, 17)]]
    assert attention_error([swapped], prompts) > np.log(3)


def test_a_small_component_counts_as_a_large_one_does() -> None:
    large, small = disc(0, 0, 30, 16), disc(1, 0, 30, 46)
    small.mask[:, 44:] = 0
    prompts = batch([[large, small]])
    uniform = torch.full((1, 17, 64, 64), 1 / 3)
    errors = []
    for token in (1, 2):
        missed = uniform.clone()
        missed[:, token] = 0.01
        errors.append(attention_error([missed], prompts).item())
    assert errors[0] == pytest.approx(errors[1])


def test_a_step_sees_weak_and_strong_noise() -> None:
    times = learner()._times(np.random.default_rng(0), 8)
    assert (times // 125).tolist() == list(range(8))


def test_the_rate_warms_up_and_falls() -> None:
    settings = DenoiserSettings(steps=100, learning_rate=1.0)
    rates = [settings.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == pytest.approx(1, abs=0.02)
    assert rates[99] < 0.01


def test_no_scenes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one scene at least"):
        train_denoiser(
            [], [], components=1, modes=1, settings=SETTINGS, checkpoint=tmp_path / "c.pt", key="", progress=silent
        )
