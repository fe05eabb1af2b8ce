"""Every config and variant: its network, its docstring, one real step of it; and what is refused, by name."""

import functools
import re
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import srgan
from configs.default import get_config
from tests.tiny import compile_cache  # noqa: F401 (a fixture)
from wdsr_jax.errors import UserError
from wdsr_jax.models import count_params, create_model
from wdsr_jax.models.layers import STATISTICS
from wdsr_jax.training import optim
from wdsr_jax.training import step as steps
from wdsr_jax.training.config import KEYS, check_config, override, override_all, read_config
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
    "configs/srcnn.py": 20_099,
    "configs/srcnn.py:srcnn_915": 20_099,
    "configs/srcnn.py:srcnn_955": 69_251,
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


@pytest.mark.parametrize("name", PARAMETERS)
def test_loads_locked_and_makes_its_network(name):
    config = read_config(name)
    assert config.is_locked
    if "gan" in config:
        with config.unlocked():
            config.train.init_from = "runs/psnr"
    check_config(config)
    assert config.model.scale == int(re.search(r"x(\d)", name)[1]) if re.search(r"x\d", name) else True
    shapes = jax.eval_shape(functools.partial(steps.init_params, create_model(config.model), 0))
    assert count_params(shapes) == PARAMETERS[name]


@pytest.mark.parametrize("file", FILES)
def test_is_short_and_its_docstring_gives_the_command(file):
    text = (ROOT / file).read_text()
    assert text.count("\n") <= 40
    docstring = text.split('"""')[1]
    if file != "configs/default.py":  # which is there to be varied
        assert re.search(rf"python -m wdsr_jax\.main --config={file}\S* --workdir=\S+", docstring)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PARAMETERS]
)
@pytest.mark.usefixtures("compile_cache")
def test_takes_a_step(name):
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
    state = steps.create_state(steps.init_params(module, train.seed), optimizer, ema=train.ema_decay > 0)
    rng = np.random.default_rng(0)
    batch = {
        "lr": rng.integers(0, 256, (2, 6, 6, 3), dtype=np.uint8),
        "hr": rng.integers(0, 256, (2, 6 * scale, 6 * scale, 3), dtype=np.uint8),
    }
    step = functools.partial(
        steps.train_step,
        module=module,
        optimizer=optimizer,
        loss=LOSSES[train.loss],
        seed=train.seed,
        ema_decay=train.ema_decay,
    )
    after, metrics = jax.jit(step)(state, batch)
    assert int(after.step) == 1 and int(after.skipped) == 0
    assert 0 < float(metrics["loss"]) < 1
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after.params, state.params)
    moved = [leaf for path, leaf in jax.tree.leaves_with_path(moved) if path[-1].key not in STATISTICS]
    # Adam's first step moves by the learning rate, whatever the gradient.
    np.testing.assert_allclose(max(moved), float(schedule(0)), rtol=0.05)


def test_every_key_of_the_default_is_known_and_no_other():
    config = get_config()
    with config.unlocked():
        config.gan = srgan.get_config().gan
    keys = {f"{section}.{key}" for section in config for key in config[section]}
    assert keys == KEYS.keys() - {"model.mean", "model.upsampler", "model.layers", "model.growth"}


def test_overrides():
    config = get_config()
    for key, text in {
        "model.mean": "(0.5, 0.5, 0.5)",
        "data.batch_size": "32",
        "data.root": "a b=c",
        "train.steps": "1_000_000",
        "train.learning_rate": "1",
        "train.lr_boundaries": "[100, 200]",
        "train.grad_clip": "5e-1",
    }.items():
        override(config, key, text)
    check_config(config)
    assert config.model.mean == (0.5, 0.5, 0.5)
    assert (config.data.batch_size, config.data.root) == (32, "a b=c")
    assert (config.train.steps, config.train.learning_rate, config.train.grad_clip) == (1_000_000, 1.0, 0.5)
    assert config.train.lr_boundaries == (100, 200)
    assert config.is_locked
    override(config, "train.lr_boundaries", "7")
    assert config.train.lr_boundaries == (7,)
    override(config, "train.lr_boundaries", "")
    assert config.train.lr_boundaries == ()


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("data.bacth_size", "3", "config.data.bacth_size: no such key; did you mean config.data.batch_size?"),
        ("batch_size", "3", "config.batch_size: no such key; did you mean config.data.batch_size?"),
        (
            "train.batch_size",
            "3",
            "config.train.batch_size: no such key; did you mean config.data.batch_size?",
        ),
        ("data", "3", "config.data: no such key; "),
        ("xyz", "3", "config.xyz: no such key; configs/default.py has all keys"),
        ("data.batch_size", "abc", "config.data.batch_size must be a whole number, not 'abc'"),
        ("data.batch_size", "1.5", "config.data.batch_size must be a whole number, not '1.5'"),
        ("train.learning_rate", "fast", "config.train.learning_rate must be a number, not 'fast'"),
        ("train.learning_rate", "nan", "config.train.learning_rate must be a number, not nan"),
        (
            "train.lr_boundaries",
            "(1",
            "config.train.lr_boundaries must be numbers in brackets, such as (1, 2), not",
        ),
        (
            "train.lr_boundaries",
            "a",
            "config.train.lr_boundaries must be numbers in brackets, such as (1, 2), not",
        ),
        ("model.scale", "0", "config.model.scale must be a whole number and at least 1, not 0"),
        ("model.name", "wdsr_c", "config.model.name must be one of wdsr_a, wdsr_b, edsr, srcnn_915,"),
        ("data.batch_size", "3", "config.data.batch_size=3 is not divisible by the 2 devices"),
        ("data.patch_size", "0", "config.data.patch_size must be above 0, not 0"),
        ("data.workers", "-1", "config.data.workers must be 0 or more, not -1"),
        ("train.ema_decay", "1", "config.train.ema_decay must be in [0, 1), not 1.0"),
        ("train.loss", "l3", "config.train.loss must be one of"),
        ("train.shift", "-1", "config.train.shift must be 0 or more, not -1"),
        ("train.shift", "48", "config.train.shift=48 leaves nothing of a patch of 96x96 HR pixels"),
        ("data.degradation", "soft", "config.data.degradation='soft': 'soft' is unknown; it is one of"),
        ("train.schedule", "step", "config.train.schedule must be one of piecewise, cosine, not 'step'"),
    ],
)
def test_a_wrong_override_is_named(key, text, message):
    config = get_config()
    with pytest.raises(UserError) as error:
        override(config, key, text)
        check_config(config)
    assert str(error.value).startswith(message)


OWN = """\
from ml_collections import ConfigDict
from configs.default import get_config as default
def unlocked():
    return ConfigDict({name: ConfigDict(section) for name, section in default().to_dict().items()})
def get_config():
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "c = unlocked(); c.train.lerning_rate = 1.0; return c",
            "config.train.lerning_rate: no such key; did you mean config.train.learning_rate?",
        ),
        (
            "c = default(); c.train.lerning_rate = 1.0; return c",
            "{file}, line 6: no such key lerning_rate; did you mean config.train.learning_rate?",
        ),
        (
            "c = default(); c.train.steps = 'many'; return c",
            "{file}, line 6: TypeError: Could not override field 'steps'",
        ),
        (
            "c = unlocked(); c.train = ConfigDict(dict(c.train.to_dict(), steps=None)); return c",
            "config.train.steps must be a whole number, not None",
        ),
        (
            "c = unlocked(); c.train = ConfigDict(dict(c.train.to_dict(), seed=True)); return c",
            "config.train.seed must be a whole number, not True",
        ),
        (
            "c = unlocked(); del c.train.steps; return c",
            "config.train.steps is missing; configs/default.py has all keys",
        ),
        ("c = unlocked(); del c.data; return c", "config.data.source is missing"),
        ("c = unlocked(); del c.data; c.data = 3; return c", "config.data must be a ConfigDict, not 3"),
        (
            "c = unlocked(); c.eval = ConfigDict(); return c",
            "config.eval: no such section; there are model, data, train",
        ),
        ("return default().to_dict()", "{file}: get_config() returned dict, not an"),
        ("default()", "{file}: get_config() returned NoneType, not an"),
        ("pass\ndel get_config", "{file}: has no function get_config()"),
        ("return (", "{file}, line 6: '(' was never closed"),
        ("return unknown", "{file}, line 6: NameError: name 'unknown' is not defined"),
        (
            "pass\nimport nothing_of_the_kind",
            "{file}, line 7: ModuleNotFoundError: No module named 'nothing_of",
        ),
        ("return default(3)", "{file}, line 6: TypeError: get_config() takes 0 positional arguments"),
        ("raise ValueError('two\\nlines')", "--config={file}: two lines"),
    ],
)
def test_what_is_wrong_with_a_config_of_ones_own_is_named(tmp_path, body, message):
    file = tmp_path / "own.py"
    file.write_text(f"{OWN}    {body}\n")
    with pytest.raises(UserError) as error:
        check_config(read_config(str(file)))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(message.format(file=file))


def test_a_config_of_ones_own(tmp_path):
    file = tmp_path / "own.py"
    own = "LATER = 8\ndef get_config(size):\n    c = default(); c.model.blocks = LATER; return c\n"
    file.write_text(f"{OWN}    pass\n{own}")
    config = read_config(f"{file}:any")
    check_config(config)
    assert config.model.blocks == 8


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "configs/x4.py:foo",
            "--config=configs/x4.py:foo: variant 'foo': there are wdsr_a, wdsr_b and large",
        ),
        ("configs/x4.py:", "--config=configs/x4.py:: variant ''"),
        (
            "configs/quickstart.py:foo",
            "--config=configs/quickstart.py:foo: configs/quickstart.py has no variants",
        ),
        ("configs/none.py", "--config=configs/none.py: there is no file configs/none.py"),
        ("configs", "--config=configs: there is no file configs"),
        ("configs/shipped/wdsr_a_16.py", "--config=configs/shipped/wdsr_a_16.py: needs a variant, "),
    ],
)
def test_a_wrong_file_or_variant_is_named(argument, message):
    with pytest.raises(UserError) as error:
        read_config(argument)
    assert str(error.value).startswith(message)


def test_a_section_that_is_missing_is_named_by_an_override():
    with pytest.raises(UserError, match=r"config\.data is missing"):
        override(ml_collections.ConfigDict(), "data.root", "x")


TEXTS = st.one_of(
    st.text(max_size=12),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(repr),
    st.sampled_from(
        ["", "()", "(1,", "[1, 2]", "1e999", "nan", "-0", "None", "True", "1_000", "0x10", "[[1]]"]
    ),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.one_of(st.sampled_from(sorted(KEYS)), st.text(max_size=9)), TEXTS), max_size=4))
def test_overrides_are_taken_or_refused_in_one_line(overrides):
    config = get_config()
    try:
        override_all(config, [f"--config.{key}={text}" for key, text in overrides])
        check_config(config)
    except UserError as error:
        assert "\n" not in str(error).strip() or any("\n" in key + text for key, text in overrides)
