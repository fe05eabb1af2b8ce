"""What is left of a run: the batches that it drew, and its state."""

import orbax.checkpoint as ocp

from wdsr_jax.training import checkpoints


def batches_of(log):
    """Digest of each batch; where a batch was drawn more than once, all draws are the same."""
    digests = {}
    for line in log.read_text().splitlines():
        i, digest = line.split()
        assert digests.setdefault(int(i), digest) == digest, f"batch {i} differs after a restart"
    return digests


def state_of(workdir):
    step = checkpoints.saved_steps(workdir)[-1]
    with ocp.StandardCheckpointer() as checkpointer:
        return step, checkpointer.restore(workdir / "checkpoints" / str(step) / "state")
