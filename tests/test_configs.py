"""Every config and variant: its network, its docstring, one real step of it."""

import functools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from wdsr_jax.errors import UserError
from wdsr_jax.models import count_params, create_model
from wdsr_jax.models.layers import STATISTICS
from wdsr_jax.training import optim
from wdsr_jax.training import step as steps
from wdsr_jax.training.config import check_config, read_config
from wdsr_jax.training.losses import LOSSES

ROOT = Path(__file__).parents[1]
FILES = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "configs").rglob("*.py") if p.name != "__init__.py")

# Trainable scalars: a convolution of k x k, I to O channels, has k k I O + 2 O of them with weight norm.
PARAMETERS = {
    "configs/default.py": 1_190_100,
    "configs/edrn.py": 58_489_686,
    "configs/edsr.py": 1_369_859,
    "configs/edsr.py:pixel_shuffle": 1_369_859,
    "configs/edsr.py:deconvolution": 1_259_075,
    "configs/msrresnet.py": 1_517_571,
    "configs/paper.py:cpu": 151_876,
    "configs/paper.py:full": 1_190_100,
    "configs/quickstart.py": 77_508,
    "configs/rdn.py": 22_123_395,
    "configs/rdn.py:d16c8g64": 22_123_395,
    "configs/rdn.py:d20c6g32": 5_616_515,
    "configs/realistic.py": 1_203_312,
    "configs/realistic.py:mild": 1_203_312,
    "configs/realistic.py:difficult": 1_203_312,
    "configs/realistic.py:wild": 1_203_312,
    "configs/shipped/wdsr_a_16.py:2": 1_190_100,
    "configs/shipped/wdsr_a_16.py:3": 1_195_605,
    "configs/shipped/wdsr_a_16.py:4": 1_203_312,
    "configs/shipped/wdsr_a_16_photo.py:2": 1_190_100,
    "configs/shipped/wdsr_a_16_photo.py:3": 1_195_605,
    "configs/shipped/wdsr_a_16_photo.py:4": 1_203_312,
    "configs/shipped/wdsr_a_4.py:2": 87_756,
    "configs/shipped/wdsr_a_4.py:3": 92_181,
    "configs/shipped/wdsr_a_4.py:4": 98_376,
    "configs/space.py": 1_436_464,
    "configs/space.py:4": 1_436_464,
    "configs/space.py:8": 1_676_224,
    "configs/srcnn.py": 20_099,
    "configs/srcnn.py:srcnn_915": 20_099,
    "configs/srcnn.py:srcnn_955": 69_251,
    "configs/srdensenet.py": 2_666_499,
    "configs/srgan.py": 1_547_350,  # of the generator
    "configs/srgan.py:srresnet": 1_547_350,
    "configs/srgan.py:edsr": 1_517_571,
    "configs/srgan.py:wdsr_a": 1_203_312,
    "configs/srgan.py:wdsr_b": 316_816,
    "configs/srresnet.py": 1_547_350,
    "configs/x2.py": 1_190_100,
    "configs/x2.py:wdsr_a": 1_190_100,
    "configs/x2.py:wdsr_b": 303_604,
    "configs/x2.py:large": 37_808_180,
    "configs/x3.py": 1_195_605,
    "configs/x3.py:wdsr_a": 1_195_605,
    "configs/x3.py:wdsr_b": 309_109,
    "configs/x3.py:large": 37_826_645,
    "configs/x4.py": 1_203_312,
    "configs/x4.py:wdsr_a": 1_203_312,
    "configs/x4.py:wdsr_b": 316_816,
    "configs/x4.py:large": 37_852_496,
    "configs/x8.py": 1_256_160,
    "configs/x8.py:wdsr_a": 1_256_160,
    "configs/x8.py:wdsr_b": 369_664,
    "configs/x8.py:large": 38_029_760,
}
QUICK = ("configs/quickstart.py", "configs/shipped/wdsr_a_16.py:3", "configs/x8.py:wdsr_b")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_table_is_complete():
    assert {name.partition(":")[0] for name in PARAMETERS} == set(FILES)
    for file in FILES:
        with pytest.raises(UserError) as error:
            read_config(f"{file}:none")
        variants = re.findall(r"\w+", str(error.value).partition("there are")[2].replace(" and ", " "))
        listed = {name.partition(":")[2] for name in PARAMETERS if name.startswith(f"{file}:")}
        in_docstring = set(re.findall(rf"{re.escape(file)}:(\w+)", (ROOT / file).read_text()))
        assert in_docstring <= listed
        assert listed == {*variants} or (file.startswith("configs/shipped/") and listed == {"2", "3", "4"})


@functools.cache  # many configs share a network
def count_of(model):
    module = create_model(json.loads(model))
    return count_params(jax.eval_shape(functools.partial(steps.init_params, module, 0)))


@pytest.mark.parametrize("name", PARAMETERS)
def test_loads_locked_and_makes_its_network(name):
    config = read_config(name)
    assert config.is_locked
    if "gan" in config or config.model.name == "wdsr_flow":
        with config.unlocked():
            config.train.init_from = "runs/psnr"
    check_config(config)
    assert config.model.scale == int(re.search(r"x(\d)", name)[1]) if re.search(r"x\d", name) else True
    model = config.model.to_dict() | dict(dtype="float32")
    assert count_of(json.dumps(model, sort_keys=True)) == PARAMETERS[name]


@pytest.mark.parametrize("file", FILES)
def test_is_short_and_its_docstring_gives_the_command(file):
    text = (ROOT / file).read_text()
    assert text.count("\n") <= 40
    docstring = text.split('"""')[1]
    if file != "configs/default.py":  # which is there to be varied
        assert re.search(rf"python -m wdsr_jax\.main --config={file}\S* --workdir=\S+", docstring)


def tiny_step(name):
    """A step of 2 patches of 6x6 LR pixels, with the network's width and depth alone reduced.

    Returns:
        A function without arguments to the state before and after the step and its metrics, and the learning
        rate of the step.
    """
    config = read_config(name)
    config.model.update(filters=4, blocks=1)
    train, scale = config.train, config.model.scale
    module = create_model(config.model)
    schedule = optim.learning_rate_schedule(
        train.schedule,
        learning_rate=train.learning_rate,
        steps=train.steps,
        warmup_steps=train.warmup_steps,
        boundaries=train.lr_boundaries,
        decay=train.lr_decay,
    )
    optimizer = optim.create_optimizer(schedule, train.grad_clip)
    rng = np.random.default_rng(0)
    # Not from the network's own initialisers, which take longer to compile than the step.
    shapes = jax.eval_shape(functools.partial(steps.init_params, module, train.seed))

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape)
        if path[-1].key == "kernel":  # features keep their size, with and without a norm
            return (values * (leaf.shape[-1] / leaf.size) ** 0.5).astype(leaf.dtype)
        return np.abs(0.1 * values).astype(leaf.dtype)  # factors and variances are positive

    params = jax.tree.map_with_path(draw, shapes)
    batch = {
        "lr": rng.integers(0, 256, (2, 6, 6, 3), dtype=np.uint8),
        "hr": rng.integers(0, 256, (2, 6 * scale, 6 * scale, 3), dtype=np.uint8),
    }

    def step():
        state = steps.create_state(params, optimizer, ema=train.ema_decay > 0)
        after, metrics = steps.train_step(
            state,
            batch,
            module=module,
            optimizer=optimizer,
            loss=LOSSES[train.loss],
            seed=train.seed,
            ema_decay=train.ema_decay,
        )
        return state, after, metrics

    return step, float(schedule(0))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PARAMETERS]
)
@pytest.mark.usefixtures("compile_cache")
def test_takes_a_step(name):
    step, rate = tiny_step(name)
    state, after, metrics = jax.jit(step)()
    assert int(after.step) == 1 and int(after.skipped) == 0
    assert 0 < float(metrics["loss"]) < 1
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after.params, state.params)
    moved = [leaf for path, leaf in jax.tree.leaves_with_path(moved) if path[-1].key not in STATISTICS]
    # Adam's first step moves by the learning rate, whatever the gradient.
    np.testing.assert_allclose(max(moved), rate, rtol=0.05)
