"""Seconds by part of the model, from programs written by hand."""

import pytest
from unit.test_training_hlo import computation, line, loop, program

from bert_jax.errors import InputError
from bert_jax.model import kernel_work
from bert_jax.model.kernel_work import KernelWork
from bert_jax.tasks.step_cost import GROUPS, step_cost
from bert_jax.training.hardware import TPUS

V5E = TPUS["v5e"]
MILLION = "f32[1024,1024]{1,0:T(8,128)}"


def scoped(name, scope, cycles, opcode="add"):
    return line(name, opcode, "%p", f'metadata={{op_name="jit(step)/{scope}"}}', cycles)


def groups(text):
    return {name: value for name, value in step_cost(text, V5E).groups.items() if value}


@pytest.mark.parametrize(
    ("scope", "group"),
    [
        ("jvp(PretrainModel)/encoder/layer_1/Block/attention/query/dot_general", "attention"),
        ("transpose(jvp(PretrainModel))/encoder/while/body/Block/attention_norm/add", "attention"),
        ("jvp(PretrainModel)/encoder/layer_1/Block/feed_forward/output/dot", "feed-forward"),
        ("jvp(PretrainModel)/encoder/layer_1/Block/attention/dropout/xor", "dropout"),
        ("jvp(PretrainModel)/encoder/layer_1/Block/attention_dropout/select_n", "dropout"),
        ("jvp(PretrainModel)/encoder/embeddings/norm/mul", "embeddings"),
        ("transpose(jvp(PretrainModel))/mlm/BPD,VD->BPV/dot_general", "vocabulary head"),
        ("jvp(mlm)/reduce_sum", "vocabulary head"),
        ("optimizer/jit(_where)/select_n", "optimizer"),
        ("jvp(PretrainModel)/pooler/dense/dot_general", "other"),
    ],
)
def test_the_scope_says_the_group(scope, group):
    assert groups(program(scoped("%a", scope, 1500))) == {group: pytest.approx(1e-6)}


def test_the_groups_are_the_step():
    *parts, call = loop("12")
    text = program(
        call,
        scoped("%a", "encoder/layer_0/attention/add", 100),
        scoped("%copy.3", "encoder/layer_0/attention/add", 50, opcode="copy"),
        scoped("%b", "optimizer/add", 20),
        line("%all-reduce.1", "all-reduce", "%p", shape=MILLION),
        parts=parts,
    )
    cost = step_cost(text, V5E)
    assert set(cost.groups) == set(GROUPS)
    collective = 2 * 2**22 / (V5E.ici_bytes_per_second / 2)
    assert cost.seconds == pytest.approx((12 * 12 + 100 + 50 + 20) / 1.5e9 + collective)
    assert cost.groups["copies"] == pytest.approx(50 / 1.5e9)
    assert cost.by_formula == {"collectives": pytest.approx(collective)}


def test_dropout_is_told_from_what_it_is_fused_with():
    # 4 operations on 2**20 elements: 2**22 / (4 * 1024) = 1,024 of 5,000 cycles.
    draw = 'metadata={op_name="jit(step)/layer_0/attention/dropout/xor"}'
    inner = computation(
        "inner",
        line("%p", "parameter", "0", shape=MILLION),
        *(line(f"%xor.{n}", "xor", "%p", draw, shape=MILLION) for n in range(4)),
        line("%broadcast.1", "broadcast", "%p", draw, shape=MILLION),
        line("ROOT %multiply.1", "multiply", "%p", shape=MILLION),
    )
    rest = 'calls=%inner, metadata={op_name="jit(step)/layer_0/attention/dot_general"}'
    assert groups(program(line("%f", "fusion", "%p", rest, 5000), parts=[inner])) == {
        "dropout": pytest.approx(1024 / 1.5e9),
        "attention": pytest.approx((5000 - 1024) / 1.5e9),
    }
    assert groups(program(line("%f", "fusion", "%p", rest, 900), parts=[inner])) == {
        "dropout": pytest.approx(900 / 1.5e9)  # no more than there is
    }


def test_what_has_no_estimate_is_its_bytes():
    # On-chip memory has bytes of its own, and copies in two halves run beside the rest.
    table = line("%table", "parameter", "1", shape=MILLION)
    near = line("%near", "copy-done", "%s", shape="f32[1024,1024]{1,0:T(8,128)S(1)}")
    gather = line("%g", "fusion", "%table, %near", "kind=kCustom", shape=MILLION)
    cost = step_cost(program(table, near, gather), V5E)
    assert cost.seconds == pytest.approx(2 * 2**22 / 819e9)
    assert cost.by_formula == {"gathers, scatters, sorts": pytest.approx(cost.seconds)}
    assert cost.hidden_bytes == 2**22


def kernel(name, operands="%p, %p"):
    scope = f"jit(step)/layer_0/attention/{name}/pallas_call"
    rest = f'custom_call_target="tpu_custom_call", metadata={{op_name="{scope}"}}'
    return line(f"%{name}.3", "custom-call", operands, rest)


@pytest.mark.parametrize("version", ["v5e", "v6e"])
def test_a_pallas_kernel_is_its_work(monkeypatch, version):
    tpu, given = TPUS[version], []

    def work(*of):
        given.append(of)
        return KernelWork(8e-3 * tpu.peak_flops, 0, 0, 0, 0)

    monkeypatch.setitem(kernel_work.KERNELS, "mine", work)
    half = line("%half", "parameter", "1", shape="bf16[4,256]{1,0:T(8,128)(2,1)}")
    cost = step_cost(program(half, kernel("mine", "%p, %half")), tpu)
    assert given == [([((8, 128), 4), ((4, 256), 2)], {"v5e": 128, "v6e": 256}[version])]
    assert cost.groups["attention"] == pytest.approx(8e-3)
    assert cost.by_formula == {"Pallas kernels": pytest.approx(8e-3)}


def test_splash_attention_is_known_without_a_scope():
    tokens = line("%q", "parameter", "1", shape="bf16[2,4,128,64]{3,2,1,0:T(8,128)(2,1)}")
    rest = 'custom_call_target="tpu_custom_call"'
    call = line("%splash_mha_dq_segmented_no_residuals.12", "custom-call", "%p, %p, %q", rest)
    cost = step_cost(program(tokens, call), V5E)
    assert cost.groups["attention"] == cost.seconds == cost.by_formula["Pallas kernels"] > 0


def test_an_unknown_kernel_is_not_nothing():
    with pytest.raises(InputError, match=r"Pallas kernel 'theirs'.*add it to KERNELS"):
        step_cost(program(kernel("theirs")), V5E)


def test_an_unknown_custom_call_is_not_nothing():
    with pytest.raises(InputError, match="custom call of 'Cholesky'"):
        step_cost(program(line("%c", "custom-call", "%p", 'custom_call_target="Cholesky"')), V5E)


def test_the_random_bits_of_the_hardware():
    rest = 'metadata={op_name="jit(step)/layer_0/attention/dropout/bits"}'
    shape = "(u32[4]{0:T(128)}, u32[1020]{0:T(128)})"
    cost = step_cost(program(line("%r", "rng-bit-generator", "%p", rest, shape=shape)), V5E)
    assert cost.groups["dropout"] == pytest.approx(4 / 1.5e9)
    assert cost.by_formula == {"random bits": pytest.approx(4 / 1.5e9)}
