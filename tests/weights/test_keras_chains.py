"""What the order of kernels tells of a file of Keras whose layers have names of no meaning."""

import pytest

from wdsr_jax.models.layers import DIV2K_MEAN
from wdsr_jax.weights.families import HALF, Counts
from wdsr_jax.weights.keras_chains import chain_of

WDSR_A = [(3, 3, 3, 8), *[(3, 3, 8, 24), (3, 3, 24, 8)] * 2, (3, 3, 8, 12), (5, 5, 3, 12)]
WDSR_B = [(3, 3, 3, 8), *[(1, 1, 8, 24), (1, 1, 24, 5), (3, 3, 5, 8)] * 2, (3, 3, 8, 12), (5, 5, 3, 12)]
EDSR = [(3, 3, 3, 8), *[(3, 3, 8, 8)] * 5, (3, 3, 8, 32), (3, 3, 8, 32), (3, 3, 8, 3)]
RDN = [
    *((3, 3, 3, 8), (3, 3, 8, 8)),
    *[(3, 3, 8, 4), (3, 3, 12, 4), (3, 3, 16, 4), (1, 1, 20, 8)] * 2,
    *((1, 1, 16, 8), (3, 3, 8, 8), (3, 3, 8, 32), (3, 3, 8, 3)),
]
SRCNN = [(9, 9, 1, 64), (1, 1, 64, 32), (5, 5, 32, 1)]


def chain(kernels, layers=(), normed=False):
    return chain_of({f"conv2d_{i}": kernel for i, kernel in enumerate(kernels)}, layers, normed=normed)


@pytest.mark.parametrize(
    "kernels, network, counts, some",
    [
        (WDSR_A, "wdsr", Counts(2), {"head": 0, "block_1.project": 4, "tail": 5, "skip": 6}),
        (WDSR_B, "wdsr", Counts(2), {"block_0.reduce": 2, "block_1.project": 6, "tail": 7, "skip": 8}),
        (EDSR, "edsr", Counts(2, 0, 2), {"head": 0, "block_1.last": 4, "body": 5, "up_1": 7, "tail": 8}),
        (RDN, "rdn", Counts(2, 3, 1), {"block_1.conv_2": 8, "block_1.fuse": 9, "fuse_1": 11, "up_0": 12}),
        (SRCNN, "srcnn", Counts(), {"extract": 0, "map": 1, "reconstruct": 2}),
    ],
)
def test_the_order_of_kernels_tells_the_network(kernels, network, counts, some):
    found = chain(kernels)
    assert (found.network, found.counts) == (network, counts)
    assert len(found.convolutions) == len(kernels) == len(set(found.convolutions.values()))
    assert {name: found.convolutions[name] for name in some} == {k: f"conv2d_{i}" for k, i in some.items()}


@pytest.mark.parametrize(
    "kernels, why",
    [
        (WDSR_A[:-1], "not a WDSR; it has 0 convolutions of 5x5 on RGB, 6 other layers"),
        (WDSR_B[:-1], "not a WDSR; it has 0 convolutions of 5x5 on RGB, 8 other layers"),
        (EDSR[:4] + EDSR[5:], "not an EDSR; it has 8 convolutions of 3x3, 2 of them to upscale"),
        (RDN[:3] + RDN[4:], "not an RDN; its blocks have different numbers of layers"),
        ([(3, 3, 3, 8)], "not a WDSR"),
        ([], "not a WDSR; it has 0 convolutions"),
        ([(3,), (3, 3), (9, 9, 1, 4)], "not a WDSR"),
    ],
)
def test_what_fits_no_network_is_said(kernels, why):
    found = chain(kernels)
    assert found.network == "" and found.project.startswith(why)


LAMBDAS = ["lambda_1", "lambda_2", "lambda_3"]


@pytest.mark.parametrize(
    "layers, mean",
    [
        (["input_1", "lambda", "conv2d_0", "add", *LAMBDAS], DIV2K_MEAN),  # krasserm's, without weight norm
        (["input_1", "lambda_1", "lambda_2", "conv2d_0", "activation_1", *LAMBDAS], HALF),  # KyrinCode's
        (["input_1", "lambda", "conv2d_0"], HALF),  # who knows
        ([], HALF),
    ],
)
def test_the_mean_of_a_wdsr_without_weight_norm_is_told_by_its_lambdas(layers, mean):
    assert chain(WDSR_B, layers).mean == mean
    assert (chain(WDSR_B, layers).project == "Keras of 2018") == (mean == HALF)
    assert chain(WDSR_B, layers, normed=True).mean == DIV2K_MEAN
