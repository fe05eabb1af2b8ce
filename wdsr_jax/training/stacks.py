"""Equal blocks as one: their parameters stacked along a new first axis, and apart again.

An accelerator launches some kernels for each array that a step updates: for the norm of its gradient, for
weight norm, the optimiser, the average. For small arrays a launch takes longer than the work. So a training
state may hold one array where equal blocks have one each. Networks, weight files and checkpoints have the
blocks apart, and a step takes them apart where the network is applied.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wdsr_jax.models.batch_norm import STATISTICS
from wdsr_jax.system.devices import on_cpu

_STACK = "*"  # in the name of a stack, where its blocks have their numbers


def stack_blocks(tree: Any) -> Any:
    """Stacks equal blocks.

    In each dictionary, `NAME_0` to `NAME_n` become `NAME_*` where their arrays have the same names, shapes
    and dtypes. Blocks with batch norm stay apart, since the network gives their statistics back one by one.

    Args:
        tree: parameters, or any tree that holds some, such as a `TrainState`.

    Returns:
        The tree with arrays (blocks, ...) in `NAME_*`.
    """
    return jax.tree.map(_stacked, tree, is_leaf=_is_dict)


def stack_for_backend(tree: Any) -> Any:
    """`stack_blocks`, but on CPUs: there a launch costs nothing, and XLA compiles each slice by itself."""
    return tree if on_cpu() else stack_blocks(tree)


def unstack_blocks(tree: Any) -> Any:
    """The inverse of `stack_blocks`: a tree without stacks, in which host arrays stay on the host."""
    return jax.tree.map(_unstacked, tree, is_leaf=_is_dict)


def _is_dict(node: Any) -> bool:
    return isinstance(node, dict)


def _stacked(node: Any) -> Any:
    if not _is_dict(node):
        return node
    node = {name: stack_blocks(child) for name, child in node.items()}
    for stem in [name.removesuffix("0") for name in node if name.endswith("_0")]:
        names = list(itertools.takewhile(node.__contains__, (f"{stem}{i}" for i in itertools.count())))
        first, *others = ([(path, x.shape, x.dtype) for path, x in _leaves(node[name])] for name in names)
        if others and all(other == first for other in others) and not _has_statistics(node[names[0]]):
            node[stem + _STACK] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(node.pop, names))
    return node


def _unstacked(node: Any) -> Any:
    if not _is_dict(node):
        return node
    apart = {}
    for name, child in node.items():
        if not name.endswith(f"_{_STACK}"):
            apart[name] = unstack_blocks(child)
            continue
        leaves, structure = jax.tree.flatten(child)
        # Not by indexing: the gradient of a slice is an array of the whole stack's size.
        columns = [list(leaf) if isinstance(leaf, np.ndarray) else jnp.unstack(leaf) for leaf in leaves]
        for i, block in enumerate(zip(*columns, strict=True)):
            apart[f"{name.removesuffix(_STACK)}{i}"] = unstack_blocks(structure.unflatten(block))
    return apart


def _leaves(block: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(block)


def _has_statistics(block: Any) -> bool:
    return any(path and getattr(path[-1], "key", None) in STATISTICS for path, _ in _leaves(block))
