"""The report on a recorded program, and the search for the largest batch."""

import dataclasses
import json

import pytest

from cluenet_jax.compile import costs, report
from cluenet_jax.compile.hlo import parse_hlo
from cluenet_jax.compile.largest_batch import largest_batch, search
from cluenet_jax.compile.programs import CompiledProgram, Memory
from cluenet_jax.compile.topologies import find_topology
from tests.compile.test_hlo import TEXT

V5E = find_topology("v5e:2x2")
REFUSAL = "Ran out of memory on HBM"


@pytest.fixture(scope="module")
def program():
    module = parse_hlo(TEXT)
    memory = Memory(2**20, 2**21, 2**22, 0, 1, 2**30, 2**10)
    counts = {kind: len(listed) for kind, listed in costs.counted(module).items()}
    return CompiledProgram(
        "train_step",
        64,
        12.3,
        memory,
        flops=2e9,
        bytes_accessed=3e9,
        cycles=costs.estimate_cycles(module),
        collectives=tuple(costs.collectives(module, [(16, 32)], [()])),
        counts=counts,
        hlo=TEXT,
    )


def refused(batch_size: int) -> CompiledProgram:
    return CompiledProgram("train_step", batch_size, 1.0, refusal=REFUSAL)


def test_text_says_what_the_figures_are_and_all_of_them(program):
    text = report.to_text(V5E, [program], largest=48)
    assert "the compiler's own estimates" in text and "nothing was run or measured" in text
    assert "v5e:2x2: 4 devices of 15.75 GiB" in text
    assert "train_step, 16 examples a device, compiled in 12 s: fits" in text
    assert "optimizer 2.00 MiB" in text and "temporaries 1.00 GiB" in text
    assert "2.00 GFLOPs, 3.00 GB accessed" in text
    assert "2 scatters, 1 gathers, 1 sorts, 2 loops" in text
    assert "over activations: 1, 8.00 KiB" in text
    assert "all-reduce 8.00 KiB f32[64,32]: jit(step)/jvp(backbone)/stage1_block0" in text
    assert "unknown length  the loop of jit(step)/while: counted once" in text
    assert "2 fusion with scatter" in text and "stage1_block0" in text
    assert "48 a device" in text


def test_json_has_the_same_figures(program):
    figures = json.loads(json.dumps(report.to_json(V5E, [program], largest=48)))
    assert figures["fits"] and figures["largest_batch_per_device"] == 48
    step = figures["programs"]["train_step"]
    assert step["batch_size_per_device"] == 16 and step["memory_bytes"]["temporaries"] == 2**30
    assert step["estimated_cycles"]["total"] == program.cycles.total
    assert sum(step["estimated_cycles"]["by_scope"].values()) == program.cycles.total
    assert step["collectives"][0]["over"] == "activations"
    assert step["collectives"][0]["bytes"] == 8192
    assert "largest_batch_per_device" not in report.to_json(V5E, [program])


def test_a_program_for_gpus_has_no_cycles(program):
    unknown = dataclasses.replace(program, cycles=None, flops=None, bytes_accessed=None)
    gpus = find_topology("h100:4")
    text = report.to_text(gpus, [unknown])
    assert "h100:4: 4 devices of 59.33 GiB" in text and "temporaries 1.00 GiB" in text
    assert "the compiler gives no estimates for GPUs" in text and "GFLOPs" not in text
    assert "over activations: 1, 8.00 KiB" in text
    step = report.to_json(gpus, [unknown])["programs"]["train_step"]
    assert step["fits"] and step["estimated_cycles"] is None and step["flops"] is None


def test_what_does_not_fit_says_so(program):
    large = dataclasses.replace(
        program, memory=dataclasses.replace(program.memory, temporaries=2**40)
    )
    for unfit in (large, refused(64)):
        assert not report.fits(V5E, [program, unfit])
        assert "DOES NOT FIT" in report.to_text(V5E, [unfit])
        assert not report.to_json(V5E, [unfit])["programs"]["train_step"]["fits"]
    assert REFUSAL in report.to_text(V5E, [refused(64)])


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 100, 1000, 5000])
@pytest.mark.parametrize("own", [1, 16, 60])
@pytest.mark.parametrize("curve", ["line", "root", "square", "flat", "refuses"])
def test_the_search_takes_few_steps(limit, own, curve):
    tried = []

    def memory_of(number: int) -> int | None:
        """Bytes that grow with the number in several ways, 1,000,000 of which the limit fits."""
        if curve == "refuses":
            return 100 * number if number <= limit else None
        share = (number / limit if limit else 2) ** {"root": 0.5, "square": 2}.get(curve, 1)
        if curve == "flat" and 0.5 < share <= 1:
            share = 0.5  # A compiler that begins to save memory.
        return round(1_000_000 * share)

    def counted(number: int) -> int | None:
        tried.append(number)
        return memory_of(number)

    best = search(counted, 1_000_000, {0: 0, own: memory_of(own)})
    assert best <= limit and limit - best <= max(1, best / 8)
    assert len(tried) == len({*tried, own}) - 1 <= 20
    if curve == "line" and limit > 8:
        assert len(tried) <= 3


def test_a_good_guess_saves_compilations(program):
    compiled = []

    def compile_with(batch_size: int) -> CompiledProgram:
        compiled.append(batch_size)
        if batch_size > 4 * 260:
            return refused(batch_size)
        return dataclasses.replace(program, batch_size=batch_size)

    # A GiB for 16 a device: 240 would be 15 GiB.
    best = largest_batch(compile_with, V5E.memory_bytes, program, unit=2, num_devices=4)
    assert 230 <= best <= 260 and best % 2 == 0
    assert len(compiled) <= 6 and all(size % 8 == 0 for size in compiled)
