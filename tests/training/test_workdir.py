"""Whether a run may have its folder: what is there, what may differ when it is resumed."""

import json
import subprocess

import jax
import jax.numpy as jnp
import pytest
from absl import logging

from configs import srgan
from configs.default import get_config
from tests.tiny import read_json
from wdsr_jax.errors import UserError
from wdsr_jax.training.workdir import check_workdir, start_workdir


def config_with(**changes):
    config = get_config().to_dict()
    for key, value in changes.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


def started(tmp_path, config):
    workdir = tmp_path / "run"
    with start_workdir(workdir, config):
        return workdir


def test_start_records_config_versions_and_devices(tmp_path):
    config = config_with()
    workdir = started(tmp_path / "deep" / "er", config)
    assert read_json(workdir / "config.json") == json.loads(json.dumps(config))
    environment = read_json(workdir / "environment.json")
    assert environment["devices"] == ["cpu", "cpu"] and environment["processes"] == 1
    assert environment["jax"] == jax.__version__ and environment["python"].startswith("3.")
    assert sorted(path.name for path in workdir.iterdir()) == [".lock", "config.json", "environment.json"]


def test_checking_writes_nothing(tmp_path):
    check_workdir(tmp_path / "a" / "b", config_with(), resumes=False)
    assert list(tmp_path.iterdir()) == []


def test_the_same_config_resumes(tmp_path):
    workdir = started(tmp_path, config_with())
    check_workdir(workdir, config_with(), resumes=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data__root", "elsewhere"),
        ("data__val_root", "elsewhere"),
        ("data__cache_dir", "elsewhere"),
        ("data__workers", 8),
        ("train__log_every", 7),
        ("train__eval_every", 7),
        ("train__checkpoint_every", 7),
        ("train__keep_checkpoints", 7),
        ("train__max_skipped", 7),
        ("train__steps", 7),  # of the piecewise schedule, which it does not change
    ],
)
def test_what_may_differ(tmp_path, key, value):
    workdir = started(tmp_path, config_with())
    check_workdir(workdir, config_with(**{key: value}), resumes=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model__scale", 4),
        ("model__filters", 64),
        ("data__source", "sample"),
        ("data__batch_size", 32),
        ("train__seed", 1),
        ("train__learning_rate", 0.5),
        ("train__lr_boundaries", (1, 2)),
    ],
)
def test_what_contradicts_is_named(tmp_path, key, value):
    workdir = started(tmp_path, config_with())
    before = (workdir / "config.json").read_text()
    section, name = key.split("__")
    with pytest.raises(UserError) as error:
        check_workdir(workdir, config_with(**{key: value}, train__log_every=7), resumes=True)
    message = str(error.value)
    assert "\n" not in message and "log_every (" not in message
    assert f"another config: {section}.{name} (" in message and "; choose another --workdir" in message
    assert (workdir / "config.json").read_text() == before


def test_a_key_that_came_later_was_off(tmp_path):
    workdir = started(tmp_path, config_with())
    saved = json.loads((workdir / "config.json").read_text())
    del saved["train"]["shift_window"], saved["data"]["degradation"]
    (workdir / "config.json").write_text(json.dumps(saved))
    check_workdir(workdir, config_with(), resumes=True)
    with pytest.raises(UserError, match=r"another config: train\.shift_window \(None there, 4 here\);"):
        check_workdir(workdir, config_with(train__shift_window=4), resumes=True)


def test_the_old_name_of_the_shift_window_is_read(tmp_path):
    workdir = started(tmp_path, config_with(train__shift_window=4))
    saved = json.loads((workdir / "config.json").read_text())
    saved["train"]["shift"] = saved["train"].pop("shift_window")
    (workdir / "config.json").write_text(json.dumps(saved))
    check_workdir(workdir, config_with(train__shift_window=4), resumes=True)
    with pytest.raises(UserError, match=r"another config: train\.shift_window \(4 there, 0 here\);"):
        check_workdir(workdir, config_with(), resumes=True)


def test_several_contradictions_are_all_named(tmp_path):
    workdir = started(tmp_path, config_with())
    with pytest.raises(
        UserError, match=r"model\.blocks \(16 there, 3 here\), model\.scale \(2 there, 4 here\);"
    ):
        check_workdir(workdir, config_with(model__scale=4, model__blocks=3), resumes=True)


def test_the_length_of_a_cosine_is_not_free(tmp_path):
    workdir = started(tmp_path, config_with(train__schedule="cosine"))
    with pytest.raises(UserError, match=r"train\.steps"):
        check_workdir(workdir, config_with(train__schedule="cosine", train__steps=7), resumes=True)


def test_the_refusal_says_what_else_there_is(tmp_path):
    workdir = started(tmp_path, config_with())
    with pytest.raises(UserError) as error:
        check_workdir(workdir, config_with(train__learning_rate=0.5), resumes=True)
    message = str(error.value)
    assert f"; choose another --workdir, with --config.train.init_from={workdir} to begin" in message
    assert "; or add --config.train.resume_changed=true to go on from its state. These may change" in message
    assert "data.cache_dir, data.lr_root, data.root" in message and "train.steps" in message
    with pytest.raises(UserError) as error:
        check_workdir(workdir, config_with(model__filters=64), resumes=True)
    assert "init_from" in str(error.value) and "resume_changed" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train__learning_rate", 0.5),
        ("train__schedule", "cosine"),
        ("train__lr_boundaries", (1, 2)),
        ("train__loss", "l2"),
        ("train__seed", 1),
        ("data__batch_size", 32),
        ("data__source", "folder"),
        ("model__dtype", "bfloat16"),
        ("train__ema_decay", 0.5),
    ],
)
def test_what_may_differ_where_it_is_wanted(tmp_path, monkeypatch, key, value):
    lines = []
    monkeypatch.setattr(logging, "info", lambda message, *args: lines.append(message % args))
    workdir = started(tmp_path, config_with())
    check_workdir(workdir, config_with(**{key: value}, train__resume_changed=True), resumes=True)
    (line,) = lines
    assert f"goes on with another config: {key.replace('__', '.')} (" in line
    lines.clear()
    check_workdir(workdir, config_with(train__resume_changed=True), resumes=True)
    assert lines == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("model__scale", 4), ("model__filters", 8), ("train__ema_decay", 0.0), ("train__grad_clip", 1.0)],
)
def test_what_shapes_the_state_may_never_differ(tmp_path, key, value):
    workdir = started(tmp_path, config_with())
    name = key.replace("__", ".")
    with pytest.raises(UserError, match=rf"resume_changed is not for {name}, on which the state depends"):
        config = config_with(**{key: value}, train__resume_changed=True, train__learning_rate=0.5)
        check_workdir(workdir, config, resumes=True)


def test_a_discriminator_neither_comes_nor_goes(tmp_path):
    workdir = started(tmp_path, config_with())
    config = config_with(train__resume_changed=True) | {"gan": srgan.get_config().gan.to_dict()}
    with pytest.raises(UserError, match=r"resume_changed is not for gan\.adversarial,"):
        check_workdir(workdir, config, resumes=True)


def test_a_dtype_is_recorded_by_its_name(tmp_path):
    workdir = started(tmp_path, config_with(model__dtype=jnp.bfloat16))
    assert read_json(workdir / "config.json")["model"]["dtype"] == "bfloat16"
    check_workdir(workdir, config_with(model__dtype="bfloat16"), resumes=True)
    check_workdir(workdir, config_with(model__dtype=jnp.dtype("bfloat16")), resumes=True)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", "3", '"text"', '{"model": []}', '{"model": null}', '{"model": {"name"', "\x00"),
        *("[" * 100_000, '{"a":' * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000, '{"model": {}} {}'),
    ],
)
def test_a_config_that_is_none_is_refused_in_one_line(tmp_path, text):
    workdir = started(tmp_path, config_with())
    (workdir / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: damaged; delete it to resume") as error:
        check_workdir(workdir, config_with(), resumes=True)
    assert "\n" not in str(error.value)


def test_a_key_only_one_of_them_has_is_named(tmp_path):
    config = config_with()
    workdir = started(tmp_path, config)
    config["model"]["mean"] = (0.5, 0.5, 0.5)
    with pytest.raises(UserError, match=r"model\.mean \(None there, \[0\.5, 0\.5, 0\.5\] here\)"):
        check_workdir(workdir, config, resumes=True)


def test_without_a_checkpoint_nothing_can_contradict(tmp_path):
    workdir = started(tmp_path, config_with(model__scale=4))
    check_workdir(workdir, config_with(), resumes=False)
    with start_workdir(workdir, config_with()):
        pass
    assert read_json(workdir / "config.json")["model"]["scale"] == 2


def test_a_damaged_config_is_named(tmp_path):
    workdir = started(tmp_path, config_with())
    (workdir / "config.json").write_bytes(b'{"model": \xff')
    with pytest.raises(UserError, match=r"config\.json: damaged; delete it to resume"):
        check_workdir(workdir, config_with(), resumes=True)
    (workdir / "config.json").unlink()
    check_workdir(workdir, config_with(), resumes=True)


@pytest.mark.parametrize("below", ["", "run", "run/deeper"])
def test_a_file_is_no_workdir(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        UserError, match=r"--workdir=.*file is a file, not a folder|it is a file, not a folder"
    ):
        check_workdir(tmp_path / "file" / below, config_with(), resumes=False)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_dangling_link_is_no_workdir(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="link"):
        check_workdir(tmp_path / "link", config_with(), resumes=False)


@pytest.fixture
def read_only(tmp_path):
    """A folder on a file system mounted read-only, since root may write whatever the modes say."""
    folder = tmp_path / "read_only"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("below", ["", "run"])
def test_a_read_only_workdir_is_named(read_only, below):
    with pytest.raises(UserError, match=r"--workdir=.*read_only.* cannot be written to"):
        check_workdir(read_only / below, config_with(), resumes=False)


def test_a_read_only_workdir_is_named_by_its_mode(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(UserError, match=r"it cannot be written to"):
        check_workdir(tmp_path, config_with(), resumes=False)


def test_a_full_disk_leaves_the_config_as_it_was(tmp_path, monkeypatch):
    workdir = started(tmp_path, config_with())
    before = (workdir / "config.json").read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with (
        pytest.raises(UserError, match=r"cannot be written to \(No space left on device\)"),
        start_workdir(workdir, config_with(train__steps=3)),
    ):
        pass
    assert (workdir / "config.json").read_text() == before
    assert sorted(path.name for path in workdir.iterdir()) == [".lock", "config.json", "environment.json"]
