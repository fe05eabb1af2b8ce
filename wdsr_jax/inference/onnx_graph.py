"""ONNX graphs of networks written in JAX, in the layout that ONNX's runtimes compute in.

A network is traced, and the primitives of its jaxpr become nodes of ONNX. Three things make the graph the one
that would be written by hand:
- Whatever depends on the input is stored as (B, C, H, W), wherever the axes stand in JAX. To transpose is to
  note where they are: no node is written.
- A node is written when another one needs it. What is added to a convolution or multiplies it before (its
  bias, a block's `res_scale`, batch norm in inference) goes into its bias and kernel.
- Splitting channels, transposing and merging, as `pixel_shuffle` does, is ONNX's DepthToSpace.

Each primitive has a rule, a function under `@_rule(NAME)`: another primitive needs another such function.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from onnx import TensorProto, helper, numpy_helper

from wdsr_jax.errors import UserError

# Of 2022: whatever runs ONNX reads it, and networks of images need nothing newer.
OPSET, IR_VERSION = 17, 8

_NHWC = (0, 2, 3, 1)  # where (B, C, H, W) has each axis of JAX
_CALLS = ("jit", "pjit", "custom_jvp_call", "custom_vjp_call", "closed_call")
_ELEMENTWISE = {
    "abs": "Abs", "add": "Add", "div": "Div", "erf": "Erf", "exp": "Exp", "ge": "GreaterOrEqual",
    "gt": "Greater", "le": "LessOrEqual", "log": "Log", "logistic": "Sigmoid", "lt": "Less", "max": "Max",
    "min": "Min", "mul": "Mul", "neg": "Neg", "pow": "Pow", "sqrt": "Sqrt", "sub": "Sub", "tanh": "Tanh",
}  # fmt: skip
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1}  # as the second operand

_T = TypeVar("_T")


class _UnknownError(Exception):
    """An equation that has no translation."""


# --- values: NumPy arrays where nothing depends on the network's input, otherwise these ---------------------


@dataclasses.dataclass
class _Node:
    """A node of the graph, written when something needs it."""

    op: str
    inputs: Sequence[Any]  # str: the name of another node's output; an array: a constant
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scope: str = ""  # the module it is of, such as "block_0/expand"
    summed: Any = None  # of a ReduceSum: the number of terms
    name: str = ""  # its own and its output's, once written


@dataclasses.dataclass(frozen=True)
class _Array:
    """What depends on the input: (B, C, H, W) in the graph.

    `axes` says for each axis in JAX which of the four it is; those that JAX lacks have length 1.
    """

    node: _Node
    axes: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Cells:
    """A (B, H, W, r * r * C) reshaped to (B, H, W, r, r, C), and then with axes in this order.

    With `is_merged` the axes H and r have become one.
    """

    image: _Array
    scale: int
    order: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    is_merged: bool = False


@dataclasses.dataclass(frozen=True)
class _Size:
    """A number that is known when the network runs: a size of its input, or an expression of them."""

    size: Any


@dataclasses.dataclass(frozen=True)
class _Equation:
    """An equation of a jaxpr, some of whose operands depend on the network's input."""

    kind: str  # the name of its primitive
    params: Mapping[str, Any]
    operands: Sequence[Any]
    avals: Sequence[Any]  # shape and dtype of each operand
    shape: Sequence[Any]  # of what it gives
    scope: str  # the module it is in


# --- the graph ----------------------------------------------------------------------------------------------


def onnx_model(
    function: Callable[[jax.Array], jax.Array], name: str, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """The graph of a function of images, for any batch, height and width.

    Args:
        function: float32 (B, H, W, 3) to float32 (B, H', W', C), made of convolutions (strided, dilated,
            grouped, transposed), arithmetic, activations, concatenation, sums and means, and pixel shuffle.
        name: of the graph.
        metadata: the model's `metadata_props`.

    Returns:
        A checked model with input `lr`, (B, 3, H, W), and output `sr`, (B, C, H', W').

    Raises:
        UserError: the function does something else; names the primitive and the module it is in.
    """
    sizes = jax.export.symbolic_shape("batch, height, width")
    traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((*sizes, 3), jnp.float32))
    graph = _Graph()
    (sr,) = graph.run(traced.jaxpr, traced.consts, [_Array(_Node("", [], name="lr"), _NHWC)])
    if not isinstance(sr, _Array) or sr.axes != _NHWC:
        raise UserError("no ONNX for a network whose output is no (B, H, W, C) made from its input")
    if graph.write(sr, "sr") != "sr":
        graph.write(_Array(_Node("Identity", [sr.node.name]), _NHWC), "sr")

    def info(tensor: str, shape: Sequence[Any]) -> onnx.ValueInfoProto:
        b, h, w, c = (size if isinstance(size, int) else str(size) for size in shape)
        return helper.make_tensor_value_info(tensor, TensorProto.FLOAT, (b, c, h, w))

    inputs, outputs = [info("lr", traced.in_avals[0].shape)], [info("sr", traced.out_avals[0].shape)]
    proto = helper.make_graph(graph.nodes, name, inputs, outputs, graph.constants)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="wdsr_jax")
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """The nodes and constants written so far."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self._taken: Counter[str] = Counter()

    def run(
        self, jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any], scope: str = ""
    ) -> list[Any]:
        """The outputs of a jaxpr: NumPy arrays where they do not depend on the network's input."""
        values: dict[Any, Any] = {}
        values.update(zip(jaxpr.constvars, map(np.asarray, constants), strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(var: Any) -> Any:
            return np.asarray(var.val) if isinstance(var, Literal) else values[var]

        needed: list[Any] = [*jaxpr.outvars, *(var for eqn in jaxpr.eqns for var in eqn.invars)]
        uses = Counter(var for var in needed if not isinstance(var, Literal))
        for eqn in jaxpr.eqns:
            operands = [read(var) for var in eqn.invars]
            for var, x in zip(eqn.invars, operands, strict=True):
                if isinstance(x, _Array) and uses[var] > 1:  # written now: changed later, it would be twice
                    self.write(x)
            values.update(zip(eqn.outvars, self._outputs(eqn, operands, scope), strict=True))
        return [read(var) for var in jaxpr.outvars]

    def _outputs(self, eqn: JaxprEqn, operands: list[Any], scope: str) -> list[Any]:
        """What an equation in the module `scope`, or in one within it, gives."""
        # The stack: the network's class, then its modules from the outermost on; a part with a dot is a
        # method of the one before it.
        parts = str(eqn.source_info.name_stack).split("/")[1:]
        scope = "/".join(part for part in parts if "." not in part) or scope
        kind, avals = eqn.primitive.name, [var.aval for var in eqn.invars]
        inner = next((p for p in eqn.params.values() if isinstance(p, ClosedJaxpr)), None)
        if kind in _CALLS and inner is not None:
            return self.run(inner.jaxpr, inner.consts, operands, scope)
        if _is_known(eqn, operands):
            outputs = eqn.primitive.bind(*operands, **eqn.params)
            return [np.asarray(y) for y in (outputs if eqn.primitive.multiple_results else [outputs])]
        try:
            if kind not in _RULES or len(eqn.outvars) != 1:
                raise _UnknownError
            shape = _shape(eqn.outvars[0])
            return [_RULES[kind](self, _Equation(kind, eqn.params, operands, avals, shape, scope))]
        except _UnknownError:
            where = scope or "the network"
            raise UserError(f"no ONNX for what {where} does ({kind}); StableHLO takes any network") from None

    def write(self, x: _Array, name: str = "") -> str:
        """The name of an array in the graph, where its node is now if it was not yet."""
        node = x.node
        if not node.name:
            node.name = self._unused(name or f"{node.scope}/{node.op}".lstrip("/"))
            labels = ("", "kernel", "bias") if node.op in ("Conv", "ConvTranspose") else ("constant",) * 3
            inputs = []
            for label, value in zip(labels, node.inputs, strict=False):
                if not isinstance(value, str):
                    constant = self._unused(f"{node.scope}/{label}".lstrip("/"))
                    self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), constant))
                    value = constant
                inputs.append(value)
            self.nodes.append(helper.make_node(node.op, inputs, [node.name], node.name, **node.attributes))
        return node.name

    def _unused(self, name: str) -> str:
        self._taken[name] += 1
        return name if self._taken[name] == 1 else f"{name}_{self._taken[name]}"


def _is_known(eqn: JaxprEqn, operands: Sequence[Any]) -> bool:
    """Whether an equation of constants gives constants, whatever the size of the network's input."""
    # A number may stand for a constant whose shape only the running network knows: that one is not at hand.
    whole = all(
        isinstance(x, np.ndarray) and x.shape == tuple(_shape(var))
        for x, var in zip(operands, eqn.invars, strict=True)
    )
    sizes = [size for var in eqn.outvars for size in _shape(var)]
    return whole and eqn.primitive.name != "dim_as_value" and all(isinstance(size, int) for size in sizes)


def _shape(var: Any) -> Sequence[Any]:
    """The shape of a variable of a jaxpr, some of whose sizes may be symbols."""
    return var.aval.shape


# --- the rules: how an equation becomes nodes ---------------------------------------------------------------

_Rule = Callable[[_Graph, _Equation], Any]
_RULES: dict[str, _Rule] = {}


def _rule(*primitives: str) -> Callable[[_Rule], _Rule]:
    """Makes a function the rule of these primitives; it raises _UnknownError for what it cannot translate."""

    def register(function: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(primitives, function))
        return function

    return register


def _require(condition: bool) -> None:
    if not condition:
        raise _UnknownError


def _as(kind: type[_T], x: Any) -> _T:
    if not isinstance(x, kind):
        raise _UnknownError
    return x


@_rule("dim_as_value")
def _size(graph: _Graph, eqn: _Equation) -> _Size:
    return _Size(eqn.params["dim"])


@_rule("copy")
def _copy(graph: _Graph, eqn: _Equation) -> Any:
    return eqn.operands[0]


@_rule("convert_element_type")
def _convert(graph: _Graph, eqn: _Equation) -> Any:
    (x,) = eqn.operands
    _require(isinstance(x, _Size) or eqn.params["new_dtype"] == eqn.avals[0].dtype)
    return x


@_rule("transpose")
def _transpose(graph: _Graph, eqn: _Equation) -> _Array | _Cells:
    (x,), order = eqn.operands, eqn.params["permutation"]
    if isinstance(x, _Array):
        return _Array(x.node, tuple(x.axes[i] for i in order))
    x = _as(_Cells, x)
    return _Cells(x.image, x.scale, tuple(x.order[i] for i in order))


@_rule("reshape", "squeeze", "expand_dims", "broadcast_in_dim")
def _reshape(graph: _Graph, eqn: _Equation) -> Any:
    x, *sizes = eqn.operands
    if eqn.kind == "broadcast_in_dim" and isinstance(x, np.ndarray) and x.ndim == 0:
        return x  # to a shape that only the running network knows: as good a number
    _require(not sizes)
    old, new = eqn.avals[0].shape, eqn.shape
    if isinstance(x, _Cells):
        # The only merges of cells known: (B, H, i, W, j, C) -> (B, H*r, W, j, C) -> (B, H*r, W*r, C).
        _require(x.order == (0, 1, 3, 2, 4, 5))
        if not x.is_merged:
            b, h, i, w, j, c = old
            _require(tuple(new) == (b, h * i, w, j, c))
            return dataclasses.replace(x, is_merged=True)
        b, h, w, j, c = old
        _require(tuple(new) == (b, h, w * j, c))
        attributes = {"blocksize": x.scale, "mode": "DCR"}
        return _Array(_Node("DepthToSpace", [graph.write(x.image)], attributes, eqn.scope), _NHWC)
    x = _as(_Array, x)
    kept = [axis for axis, size in zip(x.axes, old, strict=True) if size != 1]
    if len(new) <= 4 and [s for s in old if s != 1] == [s for s in new if s != 1]:
        # Axes of length 1 come or go: any of the four that is not taken has this length.
        taken, free = iter(kept), iter([axis for axis in _NHWC if axis not in kept])
        return _Array(x.node, tuple(next(free if size == 1 else taken) for size in new))
    # (B, H, W, r*r*C) -> (B, H, W, r, r, C)
    _require(x.axes == _NHWC and len(new) == 6 and tuple(new[:3]) == tuple(old[:3]) and new[3] == new[4])
    return _Cells(x, new[3])


@_rule("conv_general_dilated")
def _convolution(graph: _Graph, eqn: _Equation) -> _Array:
    x, kernel, params = _as(_Array, eqn.operands[0]), _as(np.ndarray, eqn.operands[1]), eqn.params
    numbers = params["dimension_numbers"]  # specs: where JAX has batch, channels, height and width
    _require(
        params["batch_group_count"] == 1
        and len(x.axes) == 4
        and [x.axes[i] for i in numbers.lhs_spec] == [0, 1, 2, 3]
    )
    kernel = kernel.transpose(numbers.rhs_spec)  # (O, I, kh, kw)
    op, bias, padding = "Conv", np.zeros(len(kernel), kernel.dtype), list(params["padding"])
    strides, dilations = params["window_strides"], params["rhs_dilation"]
    reach = [d * (k - 1) for d, k in zip(dilations, kernel.shape[2:], strict=True)]
    attributes = {"kernel_shape": kernel.shape[2:], "dilations": dilations}
    attributes["group"] = params["feature_group_count"]
    if tuple(params["lhs_dilation"]) != (1, 1):
        # The input with zeros in between: the transpose of a strided convolution, which has its kernel
        # mirrored and whose padding is what it lacks of every overlap.
        _require(tuple(strides) == (1, 1) and attributes["group"] == 1)
        op, strides = "ConvTranspose", params["lhs_dilation"]
        kernel = kernel[:, :, ::-1, ::-1].swapaxes(0, 1)  # (I, O, kh, kw)
        padding = [(r - low, r - high) for r, (low, high) in zip(reach, padding, strict=True)]
    attributes["strides"] = strides
    if all(isinstance(pad, int) for pads in padding for pad in pads):
        _require(min(map(min, padding)) >= 0)
        attributes["pads"] = [low for low, _ in padding] + [high for _, high in padding]
    else:  # by the image's size, as "SAME" is of a strided convolution
        sizes = [eqn.avals[0].shape[i] for i in numbers.lhs_spec[2:]]
        same = jax.lax.padtype_to_pads(sizes, [r + 1 for r in reach], strides, "SAME")
        _require(op == "Conv" and padding == list(same))
        attributes["auto_pad"] = "SAME_UPPER"
    axes = tuple(numbers.out_spec.index(i) for i in range(4))
    return _Array(_Node(op, [graph.write(x), kernel, bias], attributes, eqn.scope), axes)


@_rule("dot_general")
def _pointwise(graph: _Graph, eqn: _Equation) -> _Array:
    """A matrix product over the channels: a convolution of one pixel."""
    x, kernel = _as(_Array, eqn.operands[0]), _as(np.ndarray, eqn.operands[1])
    _require(eqn.params["dimension_numbers"] == (((3,), (0,)), ((), ())))
    _require(x.axes == _NHWC and kernel.ndim == 2)
    kernel = kernel.T[:, :, None, None]  # (I, O) to (O, I, 1, 1)
    bias = np.zeros(len(kernel), kernel.dtype)
    attributes = {"kernel_shape": (1, 1), "dilations": (1, 1), "group": 1}
    attributes |= {"strides": (1, 1), "pads": [0, 0, 0, 0]}
    return _Array(_Node("Conv", [graph.write(x), kernel, bias], attributes, eqn.scope), x.axes)


@_rule("concatenate")
def _concatenate(graph: _Graph, eqn: _Equation) -> _Array:
    arrays = [_as(_Array, x) for x in eqn.operands]
    axes = arrays[0].axes
    _require(all(x.axes == axes for x in arrays))
    names = [graph.write(x) for x in arrays]
    return _Array(_Node("Concat", names, {"axis": axes[eqn.params["dimension"]]}, eqn.scope), axes)


@_rule("reduce_sum")
def _sum(graph: _Graph, eqn: _Equation) -> _Array:
    x = _as(_Array, eqn.operands[0])
    over = [x.axes[i] for i in eqn.params["axes"]]
    terms = 1
    for i in eqn.params["axes"]:
        terms = terms * eqn.avals[0].shape[i]
    inputs = [graph.write(x), np.array(over, np.int64)]
    axes = tuple(axis for axis in x.axes if axis not in over)
    return _Array(_Node("ReduceSum", inputs, {"keepdims": 1}, eqn.scope, summed=terms), axes)


@_rule("select_n")
def _select(graph: _Graph, eqn: _Equation) -> _Array:
    _require(len(eqn.operands) == 3)
    chosen, if_not, if_so = eqn.operands
    return _elementwise(graph, "Where", [chosen, if_so, if_not], eqn.scope)


@_rule("square", "integer_pow")
def _power(graph: _Graph, eqn: _Equation) -> _Array:
    exponent = np.array(eqn.params.get("y", 2), np.float32)
    return _elementwise(graph, "Pow", [eqn.operands[0], exponent], eqn.scope)


@_rule(*_ELEMENTWISE)
def _arithmetic(graph: _Graph, eqn: _Equation) -> _Array:
    kind, operands = eqn.kind, list(eqn.operands)
    arrays = [aval for aval, x in zip(eqn.avals, operands, strict=True) if isinstance(x, _Array)]
    same_shape = all(tuple(aval.shape) == tuple(eqn.shape) for aval in arrays)
    if kind in ("add", "mul", "max") and isinstance(operands[0], np.ndarray):
        operands = operands[::-1]
    x, y = operands[0], operands[-1]
    if kind == "div" and isinstance(x, _Array) and isinstance(y, _Size):
        return _mean(x, y.size)
    if isinstance(x, _Array) and isinstance(y, np.ndarray):
        if kind == "max" and not y.any() and same_shape:
            return _elementwise(graph, "Relu", [x], eqn.scope)
        if kind in _NEUTRAL and (y == _NEUTRAL[kind]).all() and same_shape:
            return x
        if kind in _NEUTRAL and (folded := _fold(kind, x, _stored(y, x.axes))):
            return folded
    return _elementwise(graph, _ELEMENTWISE[kind], operands, eqn.scope)


def _elementwise(graph: _Graph, op: str, operands: Sequence[Any], scope: str) -> _Array:
    """A node whose operands are arrays of the same axes, and constants."""
    arrays = [x for x in operands if isinstance(x, _Array)]
    _require(len(arrays) > 0 and all(x.axes == arrays[0].axes for x in arrays))
    _require(all(isinstance(x, _Array | np.ndarray) for x in operands))
    axes = arrays[0].axes
    inputs = [graph.write(x) if isinstance(x, _Array) else _stored(x, axes) for x in operands]
    return _Array(_Node(op, inputs, scope=scope), axes)


def _stored(constant: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """A constant with these axes as it is to be broadcast to (B, C, H, W)."""
    if constant.ndim == 0:
        return constant
    _require(constant.ndim == len(axes))
    shape = [1, 1, 1, 1]
    for axis, size in zip(axes, constant.shape, strict=True):
        shape[axis] = size
    return constant.transpose(np.argsort(axes)).reshape(shape)  # (B, C, H, W), most of them 1


def _fold(kind: str, x: _Array, constant: np.ndarray) -> _Array | None:
    """A convolution and what follows it as one; None if that is not to be had."""
    node = x.node
    if node.name or node.op not in ("Conv", "ConvTranspose"):
        return None
    source, kernel, bias = node.inputs
    if constant.size != 1 and constant.shape != (1, len(bias), 1, 1):
        return None
    constant = np.broadcast_to(constant.ravel(), bias.shape)
    if kind in ("add", "sub"):
        bias = bias + constant if kind == "add" else bias - constant
    else:
        factor = constant if kind == "mul" else 1 / constant
        shape = (-1, 1, 1, 1) if node.op == "Conv" else (1, -1, 1, 1)  # (O, I, kh, kw) or (I, O, kh, kw)
        kernel, bias = kernel * factor.reshape(shape), bias * factor
    return _Array(dataclasses.replace(node, inputs=[source, kernel, bias]), x.axes)


def _mean(total: _Array, count: Any) -> _Array:
    """A sum divided by the number of its terms."""
    node = total.node
    _require(not node.name and node.op == "ReduceSum" and node.summed == count)
    source, axes = node.inputs
    attributes = {"axes": axes.tolist(), "keepdims": 1}
    return _Array(_Node("ReduceMean", [source], attributes, node.scope), total.axes)
