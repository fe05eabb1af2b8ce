"""Each row of the tables: the names of a network as its project has them, and which project names tell."""

import itertools
import re

import pytest

from wdsr_jax.weights.families import FAMILIES, Counts, family_of, what_it_seems

# The layers of a network of 2 blocks (of 3 layers) as each project's code names them; `{a,b}` is two names.
LAYERS = {
    "the official code of 2020 wdsr": "body.0 body.{1,2}.body.{0,2} body.3 skip.0",
    "the official code of 2018 wdsr": "head.0 body.{0,1}.body.{0,2} tail.0 skip.0",
    "WDSR-pytorch wdsr": "head.0 body.{0,1}.module.{0,2,3} tail.0 skip.0",
    "EDSR-PyTorch or torchSR edsr": "head.0 body.{0,1}.body.{0,2} body.2 tail.0.{0,2} tail.1",
    "BasicSR edsr": "conv_first body.{0,1}.conv{1,2} conv_after_body upsample.{0,2} conv_last",
    "BasicSR msrresnet": "conv_first body.{0,1}.conv{1,2} upconv{1,2} conv_hr conv_last",
    "SRCNN-pytorch (yjn870) srcnn": "conv{1,2,3}",
    "pytorch-srcnn (khanu263) srcnn": "patch_ex nl_mapping reconstruction",
    "RDN-pytorch (yjn870) or torchSR rdn": "sfe{1,2} rdbs.{0,1}.layers.{0,1,2}.conv rdbs.{0,1}.lff gff.{0,1} "
    "upscale.{0,2} output",
    "EDSR-PyTorch rdn": "SFENet{1,2} RDBs.{0,1}.convs.{0,1,2}.conv.0 RDBs.{0,1}.LFF GFF.{0,1} UPNet.{0,2,4}",
    "image-super-resolution (idealo) rdn": "F_m1 F_0 F_{1,2}_{1,2,3} LFF_{1,2} GFF_{1,2} UPN{1,2,3} SR",
}


def layers_of(name):
    found = []
    for word in LAYERS[name].split():
        parts = re.split(r"\{([\d,]+)\}", word)  # texts, and between them choices
        choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
        found += ["".join(chosen) for chosen in itertools.product(*choices)]
    return found


@pytest.mark.parametrize("name", LAYERS)
def test_layers_tell_the_project_and_the_counts(name):
    layers = layers_of(name)
    found = family_of(layers, torch="idealo" not in name)
    assert found
    family, counts = found
    assert f"{family.project} {family.network}" == name
    network = name.split()[-1]
    assert counts.blocks == (0 if network == "srcnn" else 2)
    assert counts.layers == (3 if network == "rdn" else 0)
    assert counts.stages == (0 if network in ("srcnn", "wdsr") or "idealo" in name else 2)
    names = family.names(counts)
    assert sorted(names.values()) == sorted(layers)  # every one, once


def test_every_row_is_tested():
    assert {f"{family.project} {family.network}" for family in FAMILIES} == LAYERS.keys()


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_is_missing_or_one_more_does_not_mislead(name):
    layers = layers_of(name)
    for i in range(len(layers)):
        found = family_of([*layers[:i], *layers[i + 1 :], "extra"], torch="idealo" not in name)
        if len(layers) > 3:
            assert found and f"{found[0].project} {found[0].network}" == name


def test_what_is_no_network_that_is_read():
    assert family_of([], torch=True) is None
    assert family_of(["layer.0", "layer.1", "conv1"], torch=True) is None
    assert family_of(["conv1", "conv2", "conv3"], torch=False) is None  # of PyTorch, not of Keras


def test_counts_are_bounded_by_the_file():
    found = family_of(["head.0", "body.9999.body.0", "body.0.body.2", "tail.0", "skip.0"], torch=True)
    assert found and found[1] == Counts(5, 0, 0)


@pytest.mark.parametrize(
    "names, what",
    [
        (["RRDB_trunk.0.RDB1.conv1.weight"], "RRDBNet"),
        (["body.0.rdb1.conv1.weight"], "RRDBNet"),
        (["layers.0.residual_group.blocks.0.attn.relative_position_bias_table"], "transformer"),
        (["body.0.body.0.body.3.conv_du.0.weight"], "RCAN"),
        (["block1.0.weight", "block2.bn1.running_mean"], "batch norm"),
        (["features.0.weight"], "classifier"),
        (["something"], ""),
    ],
)
def test_other_networks_are_named(names, what):
    assert what in what_it_seems(names) and bool(what) == bool(what_it_seems(names))
