"""Fine-tuning with a discriminator: losses against NumPy, steps against plain JAX, devices, whole runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.tiny import read_points, tiny_config
from tests.training.meshes import in_a_mesh
from tests.training.tiny_runs import state_of, stop_before_step, terminate
from tests.training.trees import assert_close, assert_same_bits
from wdsr_jax.errors import UserError
from wdsr_jax.models import create_model
from wdsr_jax.models.discriminator import Discriminator
from wdsr_jax.training import adversarial as gan
from wdsr_jax.training import checkpoints
from wdsr_jax.training import step as steps
from wdsr_jax.training.config import check_config
from wdsr_jax.training.loop import train_and_evaluate
from wdsr_jax.training.losses import l1
from wdsr_jax.weights.store import load_between, load_pretrained

SIZE = 16
GENERATOR = create_model(dict(name="srresnet", scale=2, filters=4, blocks=1))
JUDGE = Discriminator(filters=2)
SGD = optax.sgd(0.05)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_standard_losses():
    real, fake = np.array([0.3, -1.2, 2.0]), np.array([0.1, 0.4, -3.0])
    d_loss, g_loss = gan.adversarial_losses(jnp.asarray(real), jnp.asarray(fake), "standard")
    assert float(d_loss) == pytest.approx(
        -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(fake)).mean(), 1e-6
    )
    assert float(g_loss) == pytest.approx(-np.log(sigmoid(fake)).mean(), 1e-6)


def test_relativistic_losses():
    real, fake = np.array([0.3, -1.2, 2.0]), np.array([0.1, 0.4, -3.0])
    d_loss, g_loss = gan.adversarial_losses(jnp.asarray(real), jnp.asarray(fake), "relativistic")
    d_real, d_fake = sigmoid(real - fake.mean()), sigmoid(fake - real.mean())
    assert float(d_loss) == pytest.approx(-np.log(d_real).mean() - np.log(1 - d_fake).mean(), 1e-6)
    assert float(g_loss) == pytest.approx(-np.log(1 - d_real).mean() - np.log(d_fake).mean(), 1e-6)


def batch_of(seed, size=4):
    rng = np.random.default_rng(seed)
    draw = lambda side: rng.integers(0, 256, (size, side, side, 3), dtype=np.uint8)  # noqa: E731
    return {"lr": draw(SIZE // 2), "hr": draw(SIZE)}


def start(optimizer=SGD):
    return initial_state(optimizer)()


@functools.cache
def initial_state(optimizer):
    options = dict(discriminator=JUDGE, size=SIZE, seed=3)
    return jax.jit(lambda: gan.create_state(steps.init_params(GENERATOR, 0), optimizer, True, **options))


def options_of(adversarial="standard", **options):
    defaults = dict(module=GENERATOR, discriminator=JUDGE, optimizer=SGD, loss=l1, adversarial=adversarial)
    defaults |= dict(weights=gan.LossWeights(0.5, 1.0, 2.0), seed=7, ema_decay=0.6)
    return defaults | options


@pytest.mark.parametrize("adversarial", [pytest.param("standard", marks=pytest.mark.ci), "relativistic"])
def test_a_step_is_two_plain_gradients(adversarial):
    """First the discriminator's of its loss, then the network's of its own against the new discriminator."""
    state, batch = start(), batch_of(0)
    new, metrics = jax.jit(functools.partial(gan.train_step, perceptual="none", **options_of(adversarial)))(
        state, batch, None
    )
    lr, hr = (jnp.asarray(batch[name], jnp.float32) / 255 for name in ("lr", "hr"))

    def generate(params):
        return GENERATOR.apply({"params": params}, lr, mutable=["batch_stats"])

    def logits(d_params, params):
        judge = lambda x: JUDGE.apply({"params": d_params}, x, mutable=["batch_stats"])[0]  # noqa: E731
        return judge(hr), judge(generate(params)[0])

    def d_loss(d_params):
        return gan.adversarial_losses(*logits(d_params, state.params), adversarial)[0]

    value, grads = jax.jit(jax.value_and_grad(d_loss))(state.d_params)
    d_params = jax.tree.map(lambda p, g: p - 0.05 * g, state.d_params, grads)
    assert float(metrics["d_loss"]) == pytest.approx(float(value), rel=1e-5)
    assert_close(new.d_params, d_params, atol=1e-5)

    def g_loss(params):
        adversary = gan.adversarial_losses(*logits(d_params, params), adversarial)[1]
        return 0.5 * adversary + 2 * l1(generate(params)[0], hr)

    value, grads = jax.jit(jax.value_and_grad(g_loss))(state.params)
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-5)
    params = jax.tree.map(lambda p, g: p - 0.05 * g, state.params, grads)
    params = steps.put_statistics(params, jax.jit(generate)(state.params)[1]["batch_stats"])
    assert_close(new.params, params, atol=1e-5)
    assert float(metrics["loss"]) == pytest.approx(
        0.5 * float(metrics["adversarial"]) + 2 * float(metrics["pixel"]), rel=1e-5
    )


@pytest.mark.ci
@pytest.mark.parametrize("adversarial", gan.ADVERSARIAL)
def test_two_devices_change_rounding_only(adversarial):
    options = options_of(adversarial)
    one = jax.jit(functools.partial(gan.train_step, perceptual="none", **options))
    two = gan.parallel_train_step(vgg_file="", perceptual="none", **options)
    whole, metrics = one(start(), batch_of(0), None)
    split, halves = two(start(), steps.shard(batch_of(0)))
    for name, value in metrics.items():
        assert float(halves[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    assert_close(jax.device_get(split), jax.device_get(whole), atol=1e-5)


@pytest.mark.parametrize("adversarial", ["standard", pytest.param("relativistic", marks=pytest.mark.ci)])
@pytest.mark.parametrize("kind", ["shard_map", pytest.param("jit", marks=pytest.mark.ci)])
def test_a_mesh_changes_rounding_only(kind, adversarial):
    options = options_of(adversarial)
    expected, metrics = gan.parallel_train_step(vgg_file="", perceptual="none", **options)(
        start(), steps.shard(batch_of(0))
    )
    step = functools.partial(gan.train_step, vgg_params=None, perceptual="none", **options)
    result, others = in_a_mesh(kind, step)(start(), batch_of(0))
    for name in others:
        assert float(others[name]) == pytest.approx(float(metrics[name]), rel=1e-4, abs=1e-6), name
    assert_close(jax.device_get(result), jax.device_get(expected), atol=1e-5)


@pytest.mark.ci
def test_lr_is_made_on_the_devices():
    def degrade(hr, step, device):
        return {"lr": jnp.full_like(hr[:, ::2, ::2], 10 * step + device), "hr": hr}

    options, hr = options_of("standard"), batch_of(0)["hr"]
    seen = np.concatenate([np.full_like(hr[:2, ::2, ::2], device) for device in (0, 1)])
    _, expected = gan.parallel_train_step(vgg_file="", perceptual="none", **options)(
        start(), steps.shard({"lr": seen, "hr": hr})
    )
    step = gan.parallel_train_step(vgg_file="", perceptual="none", degrade=degrade, **options)
    _, metrics = step(start(), steps.shard({"hr": hr}))
    assert float(metrics["loss"]) == float(expected["loss"])


@pytest.mark.ci
def test_a_step_that_is_not_finite_is_skipped():
    step = jax.jit(
        functools.partial(gan.train_step, perceptual="none", **options_of(loss=lambda sr, hr: jnp.nan))
    )
    before = start()
    after, _ = step(before, batch_of(0), None)
    for name in ("params", "d_params", "opt_state", "d_opt_state", "ema_params", "d_ema_params"):
        assert_same_bits(getattr(after, name), getattr(before, name))
    assert int(after.skipped) == int(after.skipped_in_row) == int(after.step) == 1


# --- whole runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory, photos, image_cache, compile_cache):
    workdir = tmp_path_factory.mktemp("psnr")
    assert train_and_evaluate(tiny_config(photos, image_cache), workdir) == 0
    return workdir


@pytest.fixture
def config(photos, image_cache, trained):
    config = tiny_config(photos, image_cache)
    with config.unlocked():
        config.gan = dict(adversarial="standard", perceptual="none", vgg="", filters=2)
        config.gan.update(adversarial_weight=1e-3, perceptual_weight=1.0, pixel_weight=1.0)
        config.train.init_from = str(trained)
    return config


@pytest.mark.slow
def test_stopped_and_resumed_equals_never_stopped(config, trained, tmp_path):
    assert train_and_evaluate(config, tmp_path / "whole") == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_before_step(patch, 4, terminate)
        assert train_and_evaluate(config, tmp_path / "stopped") == 143
    assert train_and_evaluate(config, tmp_path / "stopped") == 0
    state, whole = state_of(tmp_path / "stopped"), state_of(tmp_path / "whole")
    assert {path[0].key for path in whole} >= {
        "params",
        "ema_params",
        "d_params",
        "d_ema_params",
        "d_opt_state",
    }
    assert state.keys() == whole.keys()
    for path, leaf in whole.items():
        np.testing.assert_array_equal(state[path], leaf, err_msg=str(path))

    points = read_points(tmp_path / "whole")
    for name in ("loss", "adversarial", "pixel", "d_loss", "d_real", "d_fake"):
        assert (
            len(points[f"train/{name}"]) == 6 and np.isfinite([v for _, v in points[f"train/{name}"]]).all()
        )

    (module, before), (_, after) = load_pretrained(trained), load_pretrained(tmp_path / "whole")
    assert_same_bits(load_between(tmp_path / "whole", 0.0)[1], before)
    assert_same_bits(load_between(tmp_path / "whole", 1.0)[1], after)
    other, between = load_between(tmp_path / "whole" / "model.safetensors", 0.25)
    assert other == module
    assert_close(between, jax.tree.map(lambda x, y: 0.75 * x + 0.25 * y, before, after), atol=1e-7)
    with pytest.raises(
        UserError, match=r"--perceptual: .* was not fine-tuned with a discriminator \(no .*before_gan"
    ):
        load_between(trained, 0.5)
    assert checkpoints.saved_steps(tmp_path / "whole")[-1] == 6


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "gan.adversarial",
            "hinge",
            "config.gan.adversarial must be one of standard, relativistic, not 'hinge'",
        ),
        ("gan.perceptual", "conv9_1", "config.gan.perceptual must be one of none, conv1_1, relu1_1"),
        ("gan.pixel_weight", -1.0, "config.gan.pixel_weight must be 0 or more, not -1.0"),
        ("gan.filters", 0, "config.gan.filters must be above 0, not 0"),
        ("train.init_from", "", "config.train.init_from is missing: a discriminator fine-tunes"),
        ("train.grad_accum", 2, "config.train.grad_accum must be 1 with a discriminator, not 2"),
        ("train.shift_window", 1, "config.train.shift_window must be 0 with a discriminator, not 1"),
    ],
)
def test_what_cannot_work_is_named(config, key, value, message):
    section, name = key.split(".")
    with config.unlocked():
        config[section][name] = value
    with pytest.raises(UserError, match=message):
        check_config(config)


def test_another_network_is_refused(config, tmp_path):
    config.model.filters = 5
    with pytest.raises(UserError, match=r"is another network than config.model: block_0.expand is not there"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_vgg_it_says_where_to_get_it(config, tmp_path):
    with config.unlocked():
        config.gan.perceptual = "relu5_4"
    with pytest.raises(
        UserError, match=r"config.gan.vgg=: no such file; .*torchvision's is at https://.*vgg19"
    ):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
