"""The table of slices, from rows made by hand; nothing is compiled."""

import json

import pytest

import cluenet_jax
from benchmarks import slices
from benchmarks.table import with_table
from cluenet_jax.check import check_config
from cluenet_jax.compile.costs import scope_names
from cluenet_jax.compile.programs import CompiledProgram, Memory
from cluenet_jax.compile.topologies import find_topology

ROW = {
    "variant": "clustr_b1",
    "topology": "v5e:4x4",
    "commit": "0123456789",
    "versions": {"jax": "0.10.2", "libtpu": "0.0.42.1"},
    "batch_size": 1024,
    "batch_per_device": 64,
    "fits": True,
    "compile_seconds": 700,
    "memory_bytes": 2**33,
    "memory_bytes_available": 63 * 2**28,
    "cycles": 128_000_000,
    "cycles_per_image": 2_000_000,
    "clustering_share": 0.251,
    "without_estimate": 12,
    "loops_of_unknown_length": 0,
    "collectives_over_activations": 0,
    "bytes_over_activations": 0,
}
REFUSED = {
    **{key: ROW[key] for key in ("commit", "versions", "batch_per_device")},
    "variant": "clustr_b2",
    "topology": "v5e:4x4",
    "refusal": "Ran out of memory",
}
REMAT = {
    "dots": {"memory_bytes": 2**32, "cycles": 160_000_000},
    "blocks": {"refusal": "Ran out of memory"},
}
HOW = "run python -m benchmarks.slices --only_write"


def line(rows, variant, topology):
    start = f"| `{variant}` | `{topology}` |"
    return next(text for text in slices.slices_table(rows).splitlines() if text.startswith(start))


def test_every_published_variant_has_a_recipe_that_fits_sixteen_devices():
    ours = (name for name in cluenet_jax.list_models() if name.startswith(("cluenet_", "clustr_")))
    variants = {name for name in ours if not name.endswith("_nano")}
    assert variants == slices.RECIPES.keys()
    for variant in variants:
        config = slices.recipe(variant)
        check_config(config, 16)
        assert config.model.backbone == variant and config.model.dtype == "bfloat16"


def test_the_table_has_a_line_for_each_row_and_names_the_others():
    assert slices.slices_table([]) == "No variant is compiled yet.\n"
    table = slices.slices_table([ROW, REFUSED])
    others = next(text for text in table.splitlines() if text.startswith("Not compiled yet"))
    assert others.count(" for ") == 2 * 8 - 2 and "`clustr_b1` for `v4:2x2x4`" in others
    assert line([ROW], "clustr_b1", "v5e:4x4").endswith(
        "| 64 | 8.00 of 15.75 GiB |  | 2.000 M | 25% | 12 | 0 |"
    )
    assert "does not fit: Ran out of memory" in line([REFUSED], "clustr_b2", "v5e:4x4")
    assert "| 96 |" in line([{**ROW, "largest_batch_per_device": 96}], "clustr_b1", "v5e:4x4")
    assert "Compiled from 0123456789 with jax 0.10.2, libtpu 0.0.42.1." in table
    assert len({text.count("|") for text in table.splitlines() if text.startswith("|")}) == 1


def test_the_largest_batch_is_guessed_by_proportion_until_it_is_searched_for():
    # 7 of 8 GiB grow with 64 images: 14.75 GiB have room for 134.
    row = {**ROW, "memory_bytes_fixed": 2**30}
    assert "| ≈ 130 |" in line([row], "clustr_b1", "v5e:4x4")
    assert "| 96 |" in line([{**row, "largest_batch_per_device": 96}], "clustr_b1", "v5e:4x4")


def test_what_should_not_be_stands_out():
    row = {**ROW, "fits": False, "collectives_over_activations": 2, "bytes_over_activations": 2**21}
    text = line([{**row, "loops_of_unknown_length": 3}], "clustr_b1", "v5e:4x4")
    assert "does not fit: 8.00 of 15.75 GiB" in text
    assert text.endswith("| 12, 3 loops counted once | **2**, 2.00 MiB |")


def test_what_is_there_is_not_compiled_again_and_a_later_row_replaces_its_former(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(slices, "SLICES", tmp_path / "slices.json")
    monkeypatch.setattr(slices, "PAGE", tmp_path / "tpu.md")
    marks = "".join(
        f"<!-- {name}: begin -->\n<!-- {name}: end -->\n" for name in ("slices", "remat")
    )
    slices.PAGE.write_text(marks)
    slices.SLICES.write_text(json.dumps([REFUSED, ROW]))
    calls = []
    later = {**ROW, "cycles_per_image": 3_000_000}
    monkeypatch.setattr(slices, "compile_row", lambda *of: calls.append("row") or later)
    monkeypatch.setattr(slices, "find_largest_batch", lambda *of: calls.append("batch") or 96)
    monkeypatch.setattr(slices, "compile_remat", lambda *of: calls.append("remat") or REMAT)
    of_one = ["--variants=clustr_b1", "--topologies=v5e:4x4"]
    slices.main(of_one)
    slices.main([*of_one, "--largest_batch"])
    slices.main([*of_one, "--largest_batch", "--remat"])
    assert calls == ["batch", "remat"]
    assert slices.read_rows() == [REFUSED, {**ROW, "largest_batch_per_device": 96, "remat": REMAT}]
    slices.main([*of_one, "--again"])
    assert calls[2:] == ["row"] and slices.read_rows() == [REFUSED, later]
    assert "| 3.000 M |" in slices.PAGE.read_text()


def test_the_largest_batch_is_searched_for_from_the_row(monkeypatch):
    def compile_training(config, topology):
        batch = config.optim.batch_size // topology.num_devices
        memory = Memory(2**30, 0, 0, 0, 0, batch * 2**27, 0)
        return CompiledProgram("train_step", config.optim.batch_size, 1.0, memory)

    monkeypatch.setattr(slices, "compile_training", compile_training)
    row = {**ROW, "memory_bytes_fixed": 2**30, "memory_bytes": 2**30 + 64 * 2**27}
    # 14.75 GiB of 128 MiB each: 118.
    assert 105 <= slices.find_largest_batch(row, find_topology("v5e:4x4")) <= 118


def test_the_table_of_remat_compares_with_none():
    assert slices.remat_table([ROW]) == "No setting is compiled yet.\n"
    table = slices.remat_table([REFUSED, {**ROW, "remat": REMAT}])
    assert "| images a device | none | dots | blocks |" in table
    assert table.splitlines()[-1] == (
        "| `clustr_b1` | `v5e:4x4` | 64 | 8.00 GiB | 4.00 GiB, cycles × 1.25 | does not fit |"
    )


def test_the_page_has_the_tables_of_the_rows():
    rows = json.loads(slices.SLICES.read_text())
    page = slices.PAGE.read_text()
    assert page == with_table(page, "slices", slices.slices_table(rows)), HOW
    assert page == with_table(page, "remat", slices.remat_table(rows)), HOW


STEP = "jit(train_step)/transpose(jvp(loss))/Model/backbone"


@pytest.mark.parametrize(
    ("family", "op_name", "clusters"),
    [
        ("cluenet", f"{STEP}/stage1_block0/attention/aggregation/dot_general", True),
        ("cluenet", f"{STEP}/stage1_block0/attention/transpose", True),
        ("cluenet", f"{STEP}/stage1_block0/attention/key/conv_general_dilated", False),
        ("cluenet", f"{STEP}/stage1_block0/mlp/expand/dot_general", False),
        ("cluenet", f"{STEP}/pool2/reduce_sum", True),
        ("cluenet", f"{STEP}/pool2/skip/conv_general_dilated", False),
        ("clustr", f"{STEP}/stage1_block0/attention/clustering/while/body/lt", True),
        ("clustr", f"{STEP}/stage1_block0/attention/attention/dot_general", False),
    ],
)
def test_operations_that_cluster(family, op_name, clusters):
    names = [*scope_names(op_name)]
    rule = {"cluenet": slices.clusters_in_cluenet, "clustr": slices.clusters_in_clustr}[family]
    assert rule(names) == clusters


def test_the_share_of_clustering_is_of_all_cycles():
    text = "ENTRY %main (x: f32[8]) -> f32[8] {\n  %x = f32[8]{0} parameter(0)\n"
    for name, op_name, cycles in (
        ("a", f"{STEP}/stage1_block0/attention/clustering/add", 30),
        ("b", f"{STEP}/stage1_block0/mlp/add", 90),
    ):
        text += (
            f'  %{name} = f32[8]{{0}} add(%x, %x), metadata={{op_name="{op_name}"}}, '
            f'backend_config={{"estimated_cycles":"{cycles}"}}\n'
        )
    assert slices.clustering_share(text + "}\n", "clustr_b1") == 0.25
    assert slices.clustering_share(text + "}\n", "cluenet_tiny") == 0.25
