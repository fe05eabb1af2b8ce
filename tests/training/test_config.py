"""Reading configs and command lines, the reference of all keys, and what is refused, by name."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import srgan
from configs.default import get_config
from wdsr_jax.errors import UserError
from wdsr_jax.models import model_keys
from wdsr_jax.models.vgg import LAYERS
from wdsr_jax.training import adversarial, losses, optim
from wdsr_jax.training.config import (
    KEYS,
    KINDS,
    RANGES,
    check_config,
    check_values,
    override_all,
    parse_config,
    read_config,
)

ROOT = Path(__file__).parents[2]
MODEL_KEYS = {f"model.{name}" for name in model_keys()}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def override(config, key, text):
    override_all(config, [f"--config.{key}={text}"])


def defaults():
    """Key -> default, of all keys of the default and of the discriminator."""
    config = get_config()
    with config.unlocked():
        config.gan = srgan.get_config().gan
    return {f"{section}.{key}": value for section in config for key, value in config[section].items()}


def reference():
    """The rows of configs/README.md: key -> the other cells."""
    lines = (ROOT / "configs/README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines if line.startswith("| `")]
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0].strip("`"): row[1:] for row in rows}


def test_every_key_of_the_default_is_known_and_no_other():
    keys = defaults().keys()
    assert {key for key in keys if not key.startswith("model.")} == KEYS.keys()
    assert {key for key in keys if key.startswith("model.")} < MODEL_KEYS


def test_the_reference_has_every_key_and_agrees_with_the_code():
    rows, default = reference(), defaults()
    assert [key for key in rows if not key.startswith("model.")] == list(KEYS)
    assert rows.keys() == default.keys() | MODEL_KEYS
    for key, (kind, values) in KEYS.items():
        wanted = values if isinstance(values, str) else ", ".join(f"`{value}`" for value in values)
        assert rows[key][:3] == [KINDS[kind], f"`{default[key]!r}`", wanted or "any"], key
        assert len(rows[key]) == 4 and rows[key][3]
    for key in rows.keys() - KEYS.keys():
        shown = f"`{default[key]!r}`" if key in default else "the network's"
        assert rows[key][0] == shown and len(rows[key]) == 2 and rows[key][1]


def test_choices_and_ranges_are_those_of_the_code():
    from wdsr_jax.data.div2k import TRACKS  # seconds: it imports tensorflow-datasets

    for key, there_are in {
        "train.loss": losses.LOSSES,
        "train.schedule": optim.SCHEDULES,
        "gan.adversarial": adversarial.ADVERSARIAL,
        "data.track": dict.fromkeys(track for track, _ in TRACKS),
    }.items():
        assert KEYS[key].values == tuple(there_are)
    assert {key.values for key in KEYS.values() if isinstance(key.values, str)} - {""} == RANGES.keys()


def test_a_config_is_parsed_overridden_checked_and_locked():
    config = parse_config("configs/x4.py:wdsr_b", ["--config.train.steps", "7", "--config.data.root=a b=c"])
    assert config.is_locked and (config.model.name, config.model.scale) == ("wdsr_b", 4)
    assert (config.train.steps, config.data.root) == (7, "a b=c")
    with pytest.raises(UserError, match=r"^config\.train\.steps must be above 0, not 0$"):
        parse_config("configs/x4.py", ["--config.train.steps=0"])


def test_a_network_from_outside_passes_by_its_path():
    config = parse_config("configs/x4.py", ["--config.model.name=their_package.their_module:Network"])
    assert config.model.name == "their_package.their_module:Network"


def test_checking_values_needs_no_network_that_exists():
    config = get_config()
    override(config, "model.name", "none")
    check_values(config)
    with pytest.raises(UserError, match=r"^config\.model\.name must be one of wdsr_a, "):
        check_config(config)


def test_features_that_there_are_not():
    config = parse_config("configs/srgan.py", ["--config.train.init_from=runs/psnr"])
    for layer in ("none", LAYERS[0], LAYERS[-1]):
        override(config, "gan.perceptual", layer)
        check_config(config)
    override(config, "gan.perceptual", "relu9_9")
    with pytest.raises(UserError, match=r"^config\.gan\.perceptual must be one of none, conv1_1, "):
        check_config(config)


def test_a_value_may_be_of_another_type_in_the_file():
    """Such as 1 where 1.0 is meant, or a list; the key's type is what counts."""
    config = get_config()
    with config.unlocked(), config.ignore_type():
        config.train.update(learning_rate=1, lr_boundaries=[1, 2], steps="many")
        config.model.mean = None
    for key, text in {
        "train.learning_rate": "0.5",
        "train.lr_boundaries": "3,4",
        "train.steps": "9",
        "model.mean": "(0.1, 0.2, 0.3)",
    }.items():
        override(config, key, text)
    assert (config.train.learning_rate, config.train.lr_boundaries, config.train.steps) == (0.5, (3, 4), 9)
    assert config.model.mean == (0.1, 0.2, 0.3)


def test_a_value_that_looks_like_an_option_leaves_that_key_alone():
    config = get_config()
    override_all(config, ["--config.data.root", "--config.train.seed=5", "--config.train.steps=7"])
    assert (config.data.root, config.train.seed, config.train.steps) == ("--config.train.seed=5", 0, 7)


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
        ("train.shift", "8", "config.train.shift: no such key; did you mean config.train.shift_window?"),
        ("model.fliters", "8", "config.model.fliters: no such key; did you mean config.model.filters?"),
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
        ("data.workers", "-1", "config.data.workers must be from 0 to 1024, not -1"),
        ("data.workers", "1025", "config.data.workers must be from 0 to 1024, not 1025"),
        ("train.seed", "1" + 30 * "0", "config.train.seed must be at most 9223372036854775807, not 1000"),
        ("train.seed", 5000 * "9", "config.train.seed must be a whole number, not '999"),
        (
            "data.batch_size",
            "1000000000000",
            "config.data.batch_size must be at most 2147483647, not 1000000000000",
        ),
        (
            "data.batch_size",
            "100000000",
            "config.data.batch_size=100000000 patches of config.data.patch_size=48 are",
        ),
        ("train.lr_boundaries", f"({400 * '9'},)", "config.train.lr_boundaries must be numbers in brackets"),
        ("train.lr_boundaries", "(10000000000,)", "config.train.lr_boundaries must be at most 2147483647"),
        ("train.learning_rate", 400 * "9", "config.train.learning_rate must be a number, not inf"),
        ("model.blocks", 400 * "9", "config.model.blocks must be at most 65536, not 999"),
        ("model.scale", "65", "config.model.scale must be at most 64, not 65"),
        ("train.ema_decay", "1", "config.train.ema_decay must be in [0, 1), not 1.0"),
        ("train.loss", "l3", "config.train.loss must be one of"),
        ("train.shift_window", "-1", "config.train.shift_window must be 0 or more, not -1"),
        (
            "train.shift_window",
            "48",
            "config.train.shift_window=48 leaves nothing of a patch of 96x96 HR pixels",
        ),
        ("data.source", "web", "config.data.source must be one of div2k, folder, sample, not 'web'"),
        ("data.track", "sharp", "config.data.track must be one of bicubic, unknown, mild, difficult, wild,"),
        ("data.degradation", "soft", "config.data.degradation='soft': 'soft' is unknown; it is one of"),
        ("data.degradation", "online,fog=1", "config.data.degradation='online,fog=1': 'fog=1' is unknown"),
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
            "{file}, line 6: no such key lerning_rate; did you mean learning_rate?",
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
        ("open('/nothing/here')", "{file}, line 6: FileNotFoundError: [Errno 2] No such file"),
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
        (
            "configs/shipped/wdsr_a_16.py",
            "--config=configs/shipped/wdsr_a_16.py: needs a variant, configs/shipped/wdsr_a_16.py:",
        ),
    ],
)
def test_a_wrong_file_or_variant_is_named(argument, message):
    with pytest.raises(UserError) as error:
        read_config(argument)
    assert str(error.value).startswith(message)


def test_a_section_that_is_missing_is_named_by_an_override():
    with pytest.raises(UserError, match=r"config\.data is missing"):
        override(ConfigDict(), "data.root", "x")


TEXTS = st.one_of(
    st.text(max_size=12),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(repr),
    st.sampled_from(
        ["", "()", "(1,", "[1, 2]", "1e999", "nan", "-0", "None", "True", "1_000", "0x10", "[[1]]"]
    ),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.one_of(st.sampled_from(sorted(KEYS)), st.text(max_size=9)), TEXTS), max_size=4))
def test_overrides_are_taken_or_refused_in_one_line(overrides):
    config = get_config()
    try:
        override_all(config, [f"--config.{key}={text}" for key, text in overrides])
        check_config(config)
    except UserError as error:
        assert "\n" not in str(error).strip() or any("\n" in key + text for key, text in overrides)


def test_a_network_from_outside_has_keys_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "their_networks.py").write_text(
        "from wdsr_jax.models.wdsr import WDSR\n\n\nclass Scaled(WDSR):\n    gain: float = 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = "their_networks:Scaled"
    for arguments in (
        ["--config.model.gain=0.5", f"--config.model.name={name}"],
        ["--config.model.name", name, "--config.model.gain", "0.5"],
    ):
        config = parse_config("configs/x2.py", arguments)
        assert (config.model.name, config.model.gain) == (name, 0.5)
        check_config(config)
    with pytest.raises(UserError, match=r"config\.model\.gain: no such key"):
        parse_config("configs/x2.py", ["--config.model.gain=0.5"])
