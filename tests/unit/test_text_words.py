"""Where words begin: by the pieces, and in Chinese by a segmenter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_jax.config import TokenizerConfig
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.pieces import SPECIAL_PIECES, Tokenizer
from bert_jax.text.words import WordMarker, word_starts

SENTENCES = [
    "我们在北京大学学习人工智能。",
    "智能手机和人工心脏，都是智能的。",
    "The running runner runs; the runners run in 北京大学, all of them.",
]
CHARACTERS = sorted({c for c in "".join(SENTENCES).lower() if not c.isspace()})


def config(**changed):
    values = {
        "path": "",
        "kind": "wordpiece",
        "vocab_size": 150,
        "lowercase": True,
        "chinese_words": False,
        "max_word_characters": 100,
        "train_megabytes": 1,
    }
    return TokenizerConfig(**(values | changed))


def wordpiece(folder, pieces, **changed):
    path = folder / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in [*SPECIAL_PIECES, *pieces]), "utf-8")
    return tokenizers.load(path, config(**changed))


@pytest.fixture(scope="module")
def characters(tmp_path_factory):
    """WordPiece with every Chinese character alone, and English in pieces."""
    pieces = [*CHARACTERS, "run", "##ner", "##ning", "##s", "the"]
    return wordpiece(tmp_path_factory.mktemp("characters"), pieces)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """WordPiece with pieces of several Chinese characters, which words cut through."""
    pieces = [*CHARACTERS, "北京", "大学学", "人工", "run", "##ner", "##s"]
    return wordpiece(tmp_path_factory.mktemp("runs"), pieces, chinese_words=True)


@pytest.fixture(scope="module")
def unigram():
    return tokenizers.train(config(kind="unigram", vocab_size=90), SENTENCES * 8)


def join(tokenizer, sentence, mode):
    """Pieces with a space before each that begins a word, and + before the others."""
    ((ids, is_start),) = WordMarker(tokenizer, mode)([sentence])
    text = ""
    for index, start in zip(ids.tolist(), is_start.tolist(), strict=True):
        text += (" " if start else "+") + tokenizer.pieces[index]
    return text.strip()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("pieces", "我 们 在 北 京 大 学 学 习 人 工 智 能 。"),
        ("jieba", "我+们 在 北+京+大+学 学+习 人+工+智+能 。"),
    ],
)
def test_chinese_of_single_characters(characters, mode, expected):
    assert join(characters, SENTENCES[0], mode) == expected


@pytest.mark.parametrize("mode", ["pieces", "jieba"])
def test_english_words_are_those_of_the_pieces(characters, mode):
    found = join(characters, "The running runners run;", mode)
    assert found == "the run+##ning run+##ner+##s run ;"


def test_a_piece_that_spans_two_words_begins_where_the_first_does(runs):
    # The segmenter's words are 北京大学 and 学习: 大学学 goes on the first of them, and 习
    # the second, of which nothing else is left.
    assert join(runs, SENTENCES[0], "pieces") == "我 们 在 北京 大学学 习 人工 智 能 。"
    assert join(runs, SENTENCES[0], "jieba") == "我+们 在 北京+大学学+习 人工+智+能 。"


def test_sentence_piece_words_begin_with_its_mark(unigram):
    for sentence in SENTENCES:
        ((ids, is_start),) = WordMarker(unigram, "pieces")([sentence])
        begins = [unigram.pieces[i].startswith("▁") for i in ids.tolist()]
        assert is_start.tolist() == [True, *begins[1:]]


def test_sentence_piece_and_the_segmenter(unigram):
    # The vocabulary has each Chinese character alone, and a ▁ that stands alone before it.
    pieces = "▁+我+们 在 北+京+大+学 学+习 人+工+智+能+。"
    assert join(unigram, SENTENCES[0], "jieba") == pieces
    found = join(unigram, "the 智能 手机", "jieba")
    assert found.endswith(" ▁+智+能 ▁+手+机")


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("run智能 run", "run 智+能 run"),
        ("智能  手机run", "智+能 手+机 run"),
        ("\u3000智能\t手机", "智+能 手+机"),
        # Characters beyond the first 65,536, and half of one: offsets stay in step.
        ("😀智能😀😀手机", "[UNK] 智+能 [UNK] 手+机"),
        ("智能\ud800手机", "智+能 手+机"),
        ("\ud83d智能", "智+能"),
        # An accent that is taken off shifts what follows in the text that is matched.
        ("e\u0301e\u0301智能手机", "e+##e 智+能+手+机"),
        ("", ""),
        (" \u0005 ", ""),
    ],
)
def test_mixed_text(tmp_path, sentence, expected):
    tokenizer = wordpiece(tmp_path, [*CHARACTERS, "run", "##e"])
    assert join(tokenizer, sentence, "jieba") == expected


@pytest.mark.parametrize("mode", ["pieces", "jieba"])
def test_the_first_piece_begins_a_word_whatever_it_says(characters, mode, monkeypatch):
    # As in a SentencePiece model that puts no ▁ before a text.
    monkeypatch.setattr(characters, "is_continuation", lambda _: True)
    assert join(characters, "the run", mode) == "the+run"


def test_word_starts_count_characters_and_not_bytes():
    assert word_starts("😀智能ab 手机") == [0, 1, 3, 5, 6]
    assert word_starts("\ud800智能") == [0, 1]
    assert word_starts("") == []


ANY_TEXT = st.text(
    st.sampled_from([*CHARACTERS, *"Eé\u0301 \t\u3000。，😀\ud800\u0000\u4e00\uf900\U00020000"]),
    max_size=30,
)


@pytest.mark.parametrize("mode", ["pieces", "jieba"])
@pytest.mark.parametrize("kind", ["characters", "runs", "unigram"])
def test_any_text(kind, mode, request):
    """The ids are the tokenizer's, the first piece begins a word, and ## never does."""
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    marker = WordMarker(tokenizer, mode)

    @given(st.lists(ANY_TEXT, max_size=4))
    def check(sentences):
        found = list(marker(sentences))
        assert len(found) == len(sentences)
        for sentence, (ids, is_start) in zip(sentences, found, strict=True):
            assert ids.tolist() == tokenizer.encode(sentence).ids
            assert len(is_start) == len(ids)
            assert is_start[:1].all()
            goes_on = [tokenizer.pieces[i].startswith("##") for i in ids[1:].tolist()]
            assert not is_start[1:][goes_on].any()

    check()
