"""A training step in a program that has a mesh, without `pmap`."""

import functools

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

MESHES = ("shard_map", "jit")


def in_a_mesh(kind, step):
    """`step` over two devices without `pmap`: in `shard_map` or jitted over a mesh of explicit axes."""
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Explicit,))
    whole, split = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("batch")))
    if kind == "shard_map":
        specs = dict(in_specs=(whole.spec, split.spec), out_specs=(whole.spec, whole.spec))
        jitted = jax.jit(jax.shard_map(functools.partial(step, axis_name="batch"), mesh=mesh, **specs))
    else:
        jitted = jax.jit(step)

    def stepped(state, batch):
        with jax.set_mesh(mesh):
            return jitted(jax.device_put(state, whole), jax.device_put(batch, split))

    return stepped
