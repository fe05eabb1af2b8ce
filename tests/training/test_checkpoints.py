"""Checkpoints on a real file system: what is kept, what damage does, and a disk that is full."""

import os
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wdsr_jax.errors import UserError
from wdsr_jax.training import checkpoints
from wdsr_jax.training import step as steps
from wdsr_jax.training.optim import create_optimizer

# Reads that Orbax gives up where one of them fails; in a run `open_checkpoints` keeps them quiet.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def make_state(step, size=300):
    """A state with numbers of its own for each step; `size` sets how large a checkpoint is."""
    rng = np.random.default_rng(step)
    params = {"head": {"kernel": jnp.asarray(rng.normal(size=(size, 3)), jnp.float32), "bias": jnp.zeros(3)}}
    state = steps.create_state(params, create_optimizer(lambda _: 1e-3), ema=True)
    return state.replace(step=jnp.asarray(step, jnp.int32))


TARGET = jax.eval_shape(lambda: make_state(0))


def save_all(workdir, psnr_of, keep=2):
    with checkpoints.open_checkpoints(workdir, keep) as manager:
        for step, psnr in psnr_of.items():
            checkpoints.save(manager, make_state(step), step, "data", psnr)
            checkpoints.finish(manager)


def restore(workdir, keep=2):
    with checkpoints.open_checkpoints(workdir, keep) as manager:
        return checkpoints.restore_newest(manager, TARGET)


def assert_is(state, step):
    expected = jax.device_get(make_state(step))
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_what_is_saved_comes_back_with_its_data(tmp_path):
    with checkpoints.open_checkpoints(tmp_path, 2) as manager:
        checkpoints.save(manager, make_state(5), 5, "fingerprint of 5")
    state, data = restore(tmp_path)
    assert_is(state, 5)
    assert data == "fingerprint of 5"
    assert checkpoints.saved_steps(tmp_path) == [5]


def test_a_replicated_state_on_two_devices_comes_back(tmp_path):
    assert jax.device_count() == 2
    with checkpoints.open_checkpoints(tmp_path, 2) as manager:
        checkpoints.save(manager, steps.replicate(make_state(5)), 5, "data")
    assert_is(restore(tmp_path)[0], 5)


def test_no_checkpoints(tmp_path):
    assert checkpoints.saved_steps(tmp_path) == []
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp-3").mkdir()
    (tmp_path / "checkpoints" / "notes").mkdir()
    assert checkpoints.saved_steps(tmp_path) == []


def test_the_latest_and_the_best_are_kept(tmp_path):
    # None: saved between two validations
    save_all(tmp_path, {1: 30.0, 2: None, 3: 32.0, 4: None, 5: 31.0, 6: None, 7: None})
    assert checkpoints.saved_steps(tmp_path) == [3, 6, 7]
    # also by those who come later
    save_all(tmp_path, {8: None, 9: 31.5})
    assert checkpoints.saved_steps(tmp_path) == [3, 8, 9]
    save_all(tmp_path, {10: 33.0, 11: None, 12: None})
    assert checkpoints.saved_steps(tmp_path) == [10, 11, 12]


def test_psnr_is_known_after_a_restart(tmp_path):
    save_all(tmp_path, {1: 30.0, 2: None})
    with checkpoints.open_checkpoints(tmp_path, 2) as manager:
        assert checkpoints.has_psnr(manager, 1)
        assert not checkpoints.has_psnr(manager, 2)


def test_saving_a_step_twice_does_nothing(tmp_path):
    with checkpoints.open_checkpoints(tmp_path, 2) as manager:
        checkpoints.save(manager, make_state(1), 1, "data", 30.0)
        checkpoints.save(manager, make_state(9), 1, "other")
    assert_is(restore(tmp_path)[0], 1)


def test_saving_copies_before_it_returns(tmp_path):
    """Training donates the arrays to its next step while the checkpoint is being written."""
    forward = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    size = 400_000
    state = make_state(0, size)
    expected = jax.device_get(state)
    with checkpoints.open_checkpoints(tmp_path, 2) as manager:
        checkpoints.save(manager, state, 0, "data")
        for _ in range(5):
            state = forward(state)
        jax.block_until_ready(state)
    with checkpoints.open_checkpoints(tmp_path, 2) as manager:
        restored, _ = checkpoints.restore_newest(manager, jax.eval_shape(lambda: make_state(0, size)))
    jax.tree.map(np.testing.assert_array_equal, restored, expected)


def files_of(checkpoint):
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, os.remove, lambda path: path.write_bytes(b"")])
def test_damage_to_the_largest_file_is_noticed(tmp_path, damage, caplog):
    save_all(tmp_path, {1: None, 2: None})
    folder = tmp_path / "checkpoints" / "2"
    damage(max(files_of(folder), key=lambda path: path.stat().st_size))
    state, _ = restore(tmp_path)
    assert_is(state, 1)
    (message,) = [r.getMessage() for r in caplog.records if "damaged" in r.getMessage()]
    assert message.startswith("checkpoint 2 is damaged (")
    assert message.endswith(f"moved to {tmp_path / 'damaged' / '2'}")
    assert "\n" not in message
    assert files_of(tmp_path / "damaged" / "2") and not folder.exists()
    # and the run can go on from there
    save_all(tmp_path, {2: None})
    assert_is(restore(tmp_path)[0], 2)


def test_damage_to_any_file_never_gives_another_state(tmp_path):
    """Each file of a checkpoint emptied, cut, altered and deleted in turn: that state, or the one before."""
    whole = tmp_path / "whole"
    save_all(whole, {1: 30.0, 2: 31.0})
    outcomes = []
    for file in files_of(whole / "checkpoints" / "2"):
        for damage in (truncate, flip_a_byte, os.remove):
            if not file.stat().st_size:
                continue
            copy = tmp_path / "copy"
            shutil.copytree(whole, copy)
            damage(copy / file.relative_to(whole))
            state, _ = restore(copy)
            step = int(state.step)
            assert_is(state, step)
            assert (copy / "damaged" / "2").exists() == (step == 1)
            outcomes.append(step)
            shutil.rmtree(copy)
    assert set(outcomes) == {1, 2} and len(outcomes) > 20


def test_a_folder_that_is_empty_or_half_written_is_passed_over(tmp_path):
    save_all(tmp_path, {1: None})
    (tmp_path / "checkpoints" / "3").mkdir()
    half = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp-17"
    shutil.copytree(tmp_path / "checkpoints" / "1", half)
    shutil.rmtree(half / "state")
    assert_is(restore(tmp_path)[0], 1)
    assert not half.exists()
    assert checkpoints.saved_steps(tmp_path) == [1]


def test_where_all_are_damaged_nothing_is_deleted(tmp_path):
    save_all(tmp_path, {1: None, 2: None})
    for step in (1, 2):
        truncate(max(files_of(tmp_path / "checkpoints" / str(step)), key=lambda path: path.stat().st_size))
    with pytest.raises(UserError) as error:
        restore(tmp_path)
    assert "no checkpoint can be read (the damaged ones are in" in str(error.value)
    assert str(tmp_path / "damaged") in str(error.value)
    assert checkpoints.saved_steps(tmp_path) == []
    assert files_of(tmp_path / "damaged" / "1") and files_of(tmp_path / "damaged" / "2")


def test_damaged_ones_of_the_same_step_lie_beside_each_other(tmp_path):
    for _ in range(3):
        save_all(tmp_path, {1: None, 2: None})
        truncate(max(files_of(tmp_path / "checkpoints" / "2"), key=lambda path: path.stat().st_size))
        assert_is(restore(tmp_path)[0], 1)
    assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == ["2", "2-2", "2-3"]


def test_a_state_of_another_network_is_not_taken(tmp_path):
    with checkpoints.open_checkpoints(tmp_path, 2) as manager:
        checkpoints.save(manager, make_state(1, size=301), 1, "data")
    with pytest.raises(UserError, match=r"checkpoint 1 is of another network than the config's"):
        restore(tmp_path)
    assert checkpoints.saved_steps(tmp_path) == [1]


def test_checkpoints_that_are_a_file_are_named(tmp_path):
    (tmp_path / "checkpoints").write_text("mine")
    assert checkpoints.saved_steps(tmp_path) == []
    with pytest.raises(UserError, match=r"checkpoints: cannot be made \(File exists\)"):
        restore(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_named_and_the_checkpoint_before_stands(small_disk):
    save_all(small_disk, {1: None})
    filler = small_disk / "filler"
    with open(filler, "wb") as file:
        room = shutil.disk_usage(small_disk).free - 8192
        file.write(os.urandom(room))
    with checkpoints.open_checkpoints(small_disk, 2) as manager:
        with pytest.raises(UserError) as error:
            checkpoints.save(manager, make_state(2), 2, "data")
            checkpoints.finish(manager)
        assert "\n" not in str(error.value)
        reason = "(No space left on device); the last good one is of step 1"
        assert str(error.value).endswith(f"checkpoints: checkpoint could not be saved {reason}")
    assert os.listdir(small_disk / "checkpoints") == ["1"]
    assert_is(restore(small_disk)[0], 1)
    # with room again the run goes on
    filler.unlink()
    save_all(small_disk, {2: None})
    assert_is(restore(small_disk)[0], 2)


@pytest.mark.parametrize("details", ["[code='28'] [spec='{a:1}']", "[spec='{a:1}'] [code='28']"])
def test_the_reason_of_tensorstore_stands_before_its_details(details):
    message = f'RESOURCE_EXHAUSTED: Error opening "zarr" driver: Failed to write: No space left {details}'
    assert checkpoints._first_line(ValueError(message)) == "No space left"


def test_an_error_of_the_writer_is_named_once_and_closing_is_quiet(tmp_path, monkeypatch):
    save_all(tmp_path, {1: None})
    with checkpoints.open_checkpoints(tmp_path, 2) as manager:
        monkeypatch.setattr(
            manager, "save", lambda *args, **options: _raise(OSError(28, "No space left on device"))
        )
        with pytest.raises(UserError, match=r"No space left on device\); the last good one is of step 1"):
            checkpoints.save(manager, make_state(2), 2, "data")


def _raise(error):
    raise error
