"""Reading of HLO: a recorded program with one of everything.

`tests/data/compiled_step.hlo.txt` is a step of `w` f32[16, 32] that libtpu 0.0.42.1 compiled for
v5e:2x2, shortened: a product and a `segment_sum` over all devices in `backbone/stage1_block0/
attention`, tanh in `mlp`, a sort in `head`, the gradient, a loop until it is small enough, one of 7
turns, and an update in `optimizer`.
"""

import pathlib

import pytest

from cluenet_jax.compile import costs
from cluenet_jax.compile.hlo import Array, parse_hlo

TEXT = (pathlib.Path(__file__).parent.parent / "data" / "compiled_step.hlo.txt").read_text()


@pytest.fixture(scope="module")
def module():
    return parse_hlo(TEXT)


def only(instructions):
    (instruction,) = instructions
    return instruction


def test_instructions_have_types_names_and_estimates(module):
    entry = {instruction.name: instruction for instruction in module.computations[module.entry]}
    update = entry["sub.9"]
    assert (update.opcode, update.arrays, update.cycles) == (
        "subtract",
        (Array("f32", (16, 32)),),
        1865,
    )
    assert update.op_name == "jit(step)/optimizer/sub"
    assert [str(array) for array in entry["sort.25"].arrays] == [
        "f32[64,32]",
        "u32[64,32]",
        "s32[64,32]",
    ]
    assert entry["all-reduce.1"].channel == 3 and entry["all-reduce.1"].cycles is None


def test_bytes_of_arrays():
    sizes = [("f32", 4), ("bf16", 2), ("pred", 1), ("s8", 1), ("f8e4m3fn", 1), ("c64", 8)]
    for dtype, size in sizes:
        assert Array(dtype, (3, 5)).bytes == 15 * size
    assert Array("s4", (3,)).bytes == 2 and Array("f32", ()).bytes == 4


def test_turns_of_loops(module):
    loops = [i for i in module.instructions() if i.opcode == "while"]
    assert [module.turns(loop) for loop in loops] == [None, 7]


def test_operations_are_counted_within_fusions(module):
    listed = costs.counted(module)
    assert {name: len(instructions) for name, instructions in listed.items()} == {
        "scatters": 2,
        "gathers": 1,
        "sorts": 1,
        "loops": 2,
    }
    assert "stage1_block0/attention" in only(listed["gathers"]).op_name


def test_collectives_over_activations_are_told_from_gradients(module):
    sums, gradient = costs.collectives(module, parameters=[(16, 32)], results=[()])
    assert (sums.over, sums.bytes) == (costs.ACTIVATIONS, 64 * 32 * 4)
    assert sums.origin == "jit(step)/jvp(backbone)/stage1_block0/attention/scatter-add"
    assert (gradient.over, gradient.bytes) == (costs.PARAMETERS, 16 * 32 * 4)
    assert {gradient.opcode, sums.opcode} == {"all-reduce"}
    both = costs.collectives(module, parameters=[(32, 16)], results=[(64, 32)])
    assert {collective.over for collective in both} == {costs.RESULTS, costs.PARAMETERS}


def test_a_gradient_is_reduced_once(module):
    same = parse_hlo(TEXT.replace("%all-reduce = f32[64,32]", "%all-reduce = f32[16,32]"))
    twice = [c.over for c in costs.collectives(same, parameters=[(16, 32)], results=[])]
    assert sorted(twice) == [costs.ACTIVATIONS, costs.PARAMETERS]
    both = [c.over for c in costs.collectives(same, parameters=[(16, 32)] * 2, results=[])]
    assert both == [costs.PARAMETERS] * 2
    # Sharded parameters are gathered, not reduced once more.
    more = costs.collectives(same, parameters=[(16, 32)], results=[], gathered=[(16, 32)])
    assert sorted(c.over for c in more) == [costs.ACTIVATIONS, costs.PARAMETERS]


def test_a_gradient_may_be_reduced_with_an_axis_split_into_heads(module):
    for whole in [(512,), (4, 4, 32), (16, 32)]:
        listed = costs.collectives(module, parameters=[whole], results=[(64, 32)])
        found = {collective.over for collective in listed}
        assert found == {costs.RESULTS, costs.ACTIVATIONS if len(whole) == 3 else costs.PARAMETERS}


def test_gradients_may_be_reduced_end_to_end():
    """As programs for GPUs do; each part is a gradient, a scalar or neither."""
    text = """%join (a: f32[512], b: f32[1], c: f32[64]) -> f32[577] {
  %a = f32[512]{0} parameter(0)
  %b = f32[1]{0} parameter(1)
  %c = f32[64]{0} parameter(2)
  ROOT %all = f32[577]{0} concatenate(%a, %b, %c), dimensions={0}
}

ENTRY %main (x: f32[512], y: f32[1], z: f32[64]) -> f32[577] {
  %x = f32[512]{0} parameter(0)
  %y = f32[1]{0} parameter(1)
  %z = f32[64]{0} parameter(2)
  %joined = f32[577]{0} fusion(%x, %y, %z), kind=kLoop, calls=%join
  ROOT %r = f32[577]{0} all-reduce(%joined), channel_id=1, to_apply=%add
}
"""
    listed = costs.collectives(parse_hlo(text), [(16, 32)], [])
    bytes_over = {collective.over: collective.bytes for collective in listed}
    assert bytes_over == {costs.PARAMETERS: 2048, costs.SCALARS: 4, costs.UNNAMED: 256}


def test_gathered_parameters_are_told_from_gathered_activations():
    text = """ENTRY %main (x: f32[8]) -> f32[32] {
  %x = f32[8]{0} parameter(0)
  ROOT %g = f32[32]{0} all-gather(%x), channel_id=1, metadata={op_name="a/b"}
}
"""
    program = parse_hlo(text)
    assert only(costs.collectives(program, [(32,)], [])).over == costs.ACTIVATIONS
    assert only(costs.collectives(program, [], [], [(32,)])).over == costs.PARAMETERS
    unnamed = parse_hlo(text.replace(', metadata={op_name="a/b"}', ""))
    assert only(costs.collectives(unnamed, [], [])).over == costs.UNNAMED


def test_steps_of_a_collective_count_once(module):
    again = TEXT.replace("%all-reduce.1 = ", "%all-reduce.7 = ", 1)
    instructions = module.computations | {"other": parse_hlo(again).computations[module.entry]}
    twice = type(module)(instructions, module.entry)
    assert len(costs.collectives(twice, [(16, 32)], [])) == 2


def test_a_started_collective_counts_what_arrives():
    text = """ENTRY %main (x: f32[8]) -> f32[32] {
  %x = f32[8]{0} parameter(0)
  %s = ((f32[8]{0}), (f32[32]{0})) all-gather-start(%x), channel_id=1, metadata={op_name="a/b"}
  ROOT %d = f32[32]{0} all-gather-done(%s)
}
"""
    gathered = only(costs.collectives(parse_hlo(text), [], []))
    assert (gathered.opcode, gathered.arrays) == ("all-gather", (Array("f32", (32,)),))


def test_cycles_are_added_by_stage_block_and_part(module):
    cycles = costs.estimate_cycles(module)
    entry = sum(i.cycles or 0 for i in module.computations[module.entry])
    assert cycles.total == entry + cycles.in_loops
    body = next(i for i in module.instructions() if i.opcode == "while" and module.turns(i) == 7)
    inside = sum(i.cycles or 0 for name in body.calls for i in module.computations[name])
    # The loop of unknown length counts once.
    assert cycles.in_loops == 7 * inside + 1849 + 1850
    assert cycles.endless == ("jit(step)/while",)
    assert cycles.grouped(0).keys() >= {"stage1", "head", "outside the model"}
    assert cycles.by_scope["stage1", "stage1_block0", "mlp"] > 0
    assert cycles.by_scope["outside the model", "outside the model", "optimizer"] == 1865
    assert sum(cycles.grouped(1).values()) == cycles.total


def test_what_has_no_estimate_is_counted_and_named(module):
    unknown = costs.estimate_cycles(module).unknown
    assert unknown["all-reduce"] == 2 and unknown["sort"] == 1
    assert unknown["fusion with scatter"] == 2
    assert "parameter" not in unknown and "get-tuple-element" not in unknown


OUTSIDE = "outside the model/outside the model"


@pytest.mark.parametrize(
    ("op_name", "scope"),
    [
        ("jit(f)/jvp(loss)/Model/backbone/backbone._run/a_1/mlp/expand/dot", "a/a_1/mlp"),
        ("jit(f)/transpose(jvp(Model))/backbone/checkpoint/a_1/add", "a/a_1/itself"),
        ("jit(f)/jvp(Model)/backbone/pool1/jit(argmax)/reduce", "pool1/pool1/itself"),
        ("jit(f)/jvp(Model)/head/norm/mul", "head/head/norm"),
        ("jit(f)/optimizer/mul;jit(f)/augment/add", f"{OUTSIDE}/optimizer"),
        ("jit(f)/transpose(jvp(loss))/mul", f"{OUTSIDE}/loss"),
        ("broadcast.5", f"{OUTSIDE}/unnamed"),
        ("", f"{OUTSIDE}/unnamed"),
    ],
)
def test_scopes(op_name, scope):
    assert "/".join(costs.scope_of(op_name)) == scope
