"""A row as it is printed, spelled out."""

import numpy as np
import pytest

from bert_jax.data.instances import DOES_NOT_FOLLOW, FOLLOWS, NO_LABEL, Instance
from bert_jax.data.masking import MaskedRow
from bert_jax.data.rendering import COLOURS, PLAIN, Markup, render_row
from bert_jax.data.rows import make_row, mark
from bert_jax.text import tokenizer as tokenizers

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "un", "##believ", "##able", "story"]
PIECES += [",", "人", "工", "智能", "，", "好", "吗"]
ID = {piece: number for number, piece in enumerate(PIECES)}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in PIECES), "utf-8")
    return tokenizers.load(path)


def segment(*words):
    """Of words, each its pieces with spaces between."""
    pieces = [(piece, i == 0) for word in words for i, piece in enumerate(word.split())]
    return mark(np.array([ID[p] for p, _ in pieces], int), np.array([s for _, s in pieces], bool))


def masked(row, **places):
    """The row with the pieces of `places` put where they say: p3="[MASK]"."""
    positions = np.array([int(name[1:]) for name in places], np.int32)
    ids = row.ids.copy()
    ids[positions] = [ID[piece] for piece in places.values()]
    return MaskedRow(ids, positions, row.ids[positions])


@pytest.fixture
def packed():
    english = Instance(
        segment("the", "un ##believ ##able", "story"), segment(",", "story"), DOES_NOT_FOLLOW
    )
    chinese = Instance(segment("人 工 智能", "，", "好"), segment("好", "吗"), FOLLOWS)
    alone = Instance(segment("un ##able"), segment(), NO_LABEL)
    return make_row([english, chinese, alone], cls=ID["[CLS]"], sep=ID["[SEP]"])


def render(row, tokenizer, *, markup=PLAIN, objective="mlm+nsp", **places):
    return render_row(row, masked(row, **places), tokenizer, objective, markup).splitlines()


def test_nothing_masked(packed, tokenizer):
    assert render(packed, tokenizer) == [
        "  1. random, 10 tokens, 0 masked",
        "     A  the ‹unbelievable› story",
        "     B  , story",
        "  2. follows, 10 tokens, 0 masked",
        "     A  ‹人工智能›，好",
        "     B  好吗",
        "  3. none, 4 tokens, 0 masked",
        "     A  ‹unable›",
    ]


def test_what_stands_in_the_place_of_masked_tokens(packed, tokenizer):
    # A word masked whole, a part of one, single pieces, the first and the last of a segment.
    places = dict(p1="story", p2="[MASK]", p3="##able", p4="##able", p8="story")
    places |= dict(p12="[MASK]", p15="，", p18="人")
    assert render(packed, tokenizer, **places)[:6] == [
        "  1. random, 10 tokens, 5 masked",
        "     A  {the → story} ‹{unbelievable → [MASK] ##able ##able}› story",
        "     B  , {story → story}",
        "  2. follows, 10 tokens, 3 masked",
        "     A  ‹人{工 → [MASK]}智能›，{好 → ，}",
        "     B  好{吗 → 人}",
    ]


def test_colours(packed, tokenizer):
    lines = render(packed, tokenizer, markup=COLOURS, p1="story", p2="[MASK]", p8="story")
    assert lines[1:3] == [
        "     A  {\033[1mthe\033[22m → \033[31mstory\033[39m}"
        " \033[4m{\033[1mun\033[22m → \033[33m[MASK]\033[39m}believable\033[24m story",
        "     B  , {\033[1mstory\033[22m → \033[32mstory\033[39m}",
    ]


def test_the_order_of_sentences(packed, tokenizer):
    lines = render(packed, tokenizer, objective="mlm+sop")
    assert [line.split(",")[0] for line in lines if "tokens" in line] == [
        *("  1. swapped", "  2. follows", "  3. none")
    ]


def test_colours_are_for_terminals_that_want_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Markup.choose(is_terminal=True) == COLOURS
    assert Markup.choose(is_terminal=False) == PLAIN
    monkeypatch.setenv("NO_COLOR", "1")
    assert Markup.choose(is_terminal=True) == PLAIN
    assert "\033" not in PLAIN.legend
