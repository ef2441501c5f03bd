"""Programs written by hand in the form that the TPU compiler prints."""

import pytest

from bert_jax.errors import InputError
from bert_jax.training.hlo import executed, parse

CYCLES = 'backend_config={"window_config":{"estimated_cycles":"%d","iteration_bounds":["1"]}}'


def line(name, opcode, operands="", rest="", cycles=None, shape="f32[8,128]{1,0:T(8,128)}"):
    estimate = f", {CYCLES % cycles}" if cycles is not None else ""
    rest = f", {rest}" if rest else ""
    return f"  {name} = {shape} {opcode}({operands}){rest}{estimate}"


def computation(name, *lines, entry=False):
    head = "ENTRY " if entry else ""
    return "\n".join([f"{head}%{name} (p: f32[8,128]) -> f32[8,128] {{", *lines, "}", ""])


def loop(limit="12", direction="LT"):
    """A condition and a body of 5 + 7 cycles, the 7 in a fusion whose parts have estimates."""
    return (
        computation(
            "condition",
            line("%limit", "constant", limit, shape="s32[]{:T(128)}"),
            line("%index", "parameter", "0", shape="s32[]{:T(128)}"),
            line("ROOT %lt", "compare", "%index, %limit", f"direction={direction}", shape="pred[]"),
        ),
        computation("fused", line("ROOT %multiply.1", "multiply", "%p, %p", cycles=100)),
        computation(
            "body",
            line("%p", "parameter", "0"),
            line("%add.1", "add", "%p, %p", cycles=5),
            line("ROOT %fusion.1", "fusion", "%add.1", "kind=kLoop, calls=%fused", cycles=7),
        ),
        line("%while.1", "while", "%p", "condition=%condition, body=%body"),
    )


def program(*entry, parts=()):
    return "\n".join(
        ["HloModule jit_step", *parts, computation("main", line("%p", "parameter", "0"), *entry)]
    ).replace("%main", "ENTRY %main")


def cycles(text):
    return sum(each.times * (each.instruction.cycles or 0) for each in executed(text))


def test_a_fusion_is_one_instruction_with_what_it_consists_of():
    _, fused, _, _ = loop()
    text = program(line("ROOT %f", "fusion", "%p", "calls=%fused", cycles=7), parts=[fused])
    assert cycles(text) == 7
    fusion = list(executed(text))[-1]
    assert [inner.opcode for inner in fusion.fused] == ["multiply"]
    assert fusion.operands[0].sizes == (8, 128)


def test_a_loop_runs_as_often_as_its_condition_says():
    *parts, call = loop("12")
    assert cycles(program(call, parts=parts)) == 12 * (5 + 7)


def test_a_loop_in_a_loop():
    *parts, call = loop("3")
    outer = [part.replace("%condition", "%outer_condition") for part in parts[:1]]
    outer.append(computation("outer_body", line("%p", "parameter", "0"), call))
    around = line("%while.2", "while", "%p", "condition=%outer_condition, body=%outer_body")
    assert cycles(program(around, parts=[*parts, *outer])) == 3 * 3 * (5 + 7)


def test_an_instruction_in_another_form_is_not_passed_over():
    strange = line("%add.1", "add", "f32[8]{0:T(128)} %p, %p", cycles=5)
    with pytest.raises(InputError, match=r"not understood, %add\.1 = "):
        cycles(program(strange))


@pytest.mark.parametrize("kind", [dict(direction="GT"), dict(direction="NE")])
def test_a_loop_that_counts_otherwise_is_not_guessed(kind):
    *parts, call = loop(**kind)
    with pytest.raises(ValueError, match="lt does not count to a constant"):
        cycles(program(call, parts=parts))


def test_of_branches_the_longest():
    branches = [computation(f"branch_{n}", line("%b", "add", "%p", cycles=n)) for n in (3, 9)]
    rest = "branch_computations={%branch_3, %branch_9}"
    assert cycles(program(line("%c", "conditional", "%p", rest), parts=branches)) == 9


def test_collectives_are_found_in_fusions_and_beside_others():
    inner = computation("inner", line("ROOT %all-reduce.1", "all-reduce", "%p", "to_apply=%sum"))
    for opcode, estimate in (("fusion", 4), ("fusion", None), ("async-start", None)):
        call = line("%f", opcode, "%p", "calls=%inner", cycles=estimate)
        found = [each.instruction.opcode for each in executed(program(call, parts=[inner]))]
        assert found.count("all-reduce") == 1
        assert (opcode in found) == (estimate is not None)


@pytest.mark.parametrize("opcode", ["fusion", "async-start"])
def test_a_collective_in_something_else_has_its_own_operands(opcode):
    """A reduce-scatter sends all of them and gives a shard."""
    inner = computation(
        "inner",
        line("%whole", "parameter", "0", shape="f32[64,128]{1,0:T(8,128)}"),
        line("ROOT %reduce-scatter.1", "reduce-scatter", "%whole", "to_apply=%sum"),
    )
    call = line("%f", opcode, "%p", "calls=%inner")
    outer = computation("outer", line("%p", "parameter", "0"), call)
    for text in (
        program(call, parts=[inner]),
        program(line("%g", opcode, "%p", "calls=%outer"), parts=[inner, outer]),
    ):
        *_, found = executed(text)
        assert found.instruction.opcode == "reduce-scatter"
        assert [shape.sizes for shape in found.operands] == [(64, 128)]
        assert [shape.sizes for shape in found.instruction.results] == [(8, 128)]


def test_a_collective_through_several_fusions_is_one():
    """So the compiler writes one that it hides behind others: a part of it in each."""
    gather = "all-gather", "%p", "channel_id=34, dimensions={0}"
    parts = [computation(f"part_{n}", line(f"ROOT %g.{n}", *gather)) for n in range(3)]
    parts.append(computation("else", line("ROOT %g.9", "all-gather", "%p", "channel_id=3")))
    names = ("part_0", "part_1", "part_2", "else")
    calls = [line(f"%{name}", "fusion", "%p", f"calls=%{name}", cycles=5) for name in names]
    found = [each.instruction.opcode for each in executed(program(*calls, parts=parts))]
    assert (found.count("all-gather"), found.count("fusion")) == (2, 4)
    # Two that are not in anything run both.
    alone = [line(f"%g.{n}", *gather) for n in range(2)]
    assert len(list(executed(program(*alone)))) == 3


def test_an_instruction_spelled_out():
    scope = "jit(step)/jvp(M)/encoder/layer_0/attention/kernel/pallas_call"
    text = program(
        line(
            "%kernel.3",
            "custom-call",
            "%p, %p",
            f'custom_call_target="tpu_custom_call", metadata={{op_name="{scope}" frame=6}}',
            shape="(bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, /*index=1*/pred[], s32[4]{0:T(128)})",
        )
    )
    computations, entry = parse(text)
    found = computations[entry]["kernel.3"]
    assert (found.target, found.scope, found.cycles) == ("tpu_custom_call", scope, None)
    assert found.operands == ("p", "p")
    assert [(s.dtype, s.sizes, s.bytes, s.is_in_hbm) for s in found.results] == [
        ("bf16", (2, 3), 12, False),
        ("pred", (), 1, True),
        ("s32", (4,), 16, True),
    ]
