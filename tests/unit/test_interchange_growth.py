"""Words added to a vocabulary and positions to a table; tokenizers as others open them."""

import json

import foreign
import numpy as np
import pytest
import tokenizers as library
from small import model_config
from tokenizers import normalizers, pre_tokenizers

from bert_jax.config import TokenizerConfig
from bert_jax.errors import InputError
from bert_jax.interchange import growth, vocabulary
from bert_jax.text import tokenizer
from bert_jax.text.wordpiece import Settings, WordPiece

TEXTS = ("abc  Ab!", "a[MASK]b 好中", "bCa,中好中 zz", "")


def wordpiece(pieces=foreign.PIECES, **changes):
    settings = dict(
        lowercase=True,
        strip_accents=True,
        chinese_characters=True,
        chinese_words=False,
        max_word_characters=100,
    )
    return WordPiece(pieces, Settings(**settings | changes))


def chinese():
    pieces = (*foreign.PIECES, "好中", "中中")
    return wordpiece(pieces, chinese_characters=False, chinese_words=True)


def unigram():
    config = TokenizerConfig(
        path="", kind="unigram", vocab_size=40, lowercase=True, chinese_words=False,
        max_word_characters=100, train_megabytes=1,
    )  # fmt: skip
    return tokenizer.train(config, ["a big red fox ran", "the fox is big and red"] * 20)


def words_file(tmp_path, *lines):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_a_new_word_starts_as_the_mean_of_its_pieces(tmp_path):
    old = wordpiece()
    words, there = vocabulary.read_words(words_file(tmp_path, "aba", "", "Ab", "CAB"), old)
    assert [word.text for word in words] == ["aba", "cab"]
    assert there == ["ab"]
    new = vocabulary.with_words(old, words)
    assert new.encode("aba cab a").ids == [22, 23, old.pieces.index("a")]
    rng = np.random.default_rng(0)
    model = model_config(vocab_size=23, width=4, heads=2)  # one row beyond the vocabulary
    params = {growth.TOKENS: rng.normal(size=(23, 4)).astype(np.float32)}
    params[growth.MLM_BIAS] = rng.normal(size=23).astype(np.float32)
    grown, sizes = growth.add_rows(params, model, [word.pieces for word in words], first=22)
    assert sizes.vocab_size == 24
    parts = [
        [old.pieces.index(piece) for piece in word] for word in (("ab", "##a"), ("c", "##a", "##b"))
    ]
    for path, table in params.items():
        np.testing.assert_array_equal(grown[path][:22], table[:22])
        for row, ids in zip((22, 23), parts, strict=True):
            np.testing.assert_allclose(grown[path][row], table[ids].mean(0), rtol=1e-6)


def test_rows_beyond_the_vocabulary_are_used_up_first():
    params = {growth.TOKENS: np.arange(20, dtype=np.float32).reshape(10, 2)}
    model = model_config(vocab_size=10, width=2, heads=1)
    grown, sizes = growth.add_rows(params, model, [[0, 1]], first=7)
    assert sizes.vocab_size == 10
    np.testing.assert_array_equal(grown[growth.TOKENS][7], [1, 2])
    np.testing.assert_array_equal(grown[growth.TOKENS][8], params[growth.TOKENS][8])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["ab", "a-b"],
            r"words\.txt:2: 'a-b' is no one word to this tokenizer, it reads a \| - \| b",
        ),
        (["a好"], r"words\.txt:1: 'a好' is no one word .* a \| 好"),
        (["a" * 101], r"words\.txt:1 is longer than the 100 characters"),
        (["ab", ""], "holds no word that the vocabulary has not"),
    ],
)
def test_what_cannot_be_a_word_is_named(lines, message, tmp_path):
    with pytest.raises(InputError, match=message):
        vocabulary.read_words(words_file(tmp_path, *lines), wordpiece())


def test_chinese_words_can_be_added_where_pieces_span_characters(tmp_path):
    words, _ = vocabulary.read_words(words_file(tmp_path, "中好"), chinese())
    assert vocabulary.with_words(chinese(), words).encode("中好").ids == [24]


def test_chinese_words_leave_the_pieces_of_other_text_alone(tmp_path):
    old = wordpiece((*foreign.PIECES, "##好", "##中", "2好"))  # as bert-base-chinese has them
    words, _ = vocabulary.read_words(words_file(tmp_path, "中好", "ba"), old)
    assert [word.pieces for word in words] == [[21, 20], [6, 17]]
    new = vocabulary.with_words(old, words)
    assert new.encode("好中好中").ids == [20, 25, 21]
    for text in ("好好中，中中", "2好a好b", "好 中", "中a好", "好㐀中", "中É好"):
        assert new.encode(text).ids == old.encode(text).ids, text
    vocabulary.write(new, tmp_path / "out", positions=9)
    theirs = library.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert theirs.encode("好中好中").ids == [2, 20, 25, 21, 3]


def test_no_word_can_be_added_to_a_sentence_piece(tmp_path):
    with pytest.raises(InputError, match=r"--add_words=.*WordPiece vocabulary alone"):
        vocabulary.read_words(words_file(tmp_path, "ab"), unigram())


def test_more_positions_repeat_the_table():
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    model = model_config(positions=4, width=2, heads=1)
    grown, sizes = growth.add_positions({growth.POSITIONS: table}, model, 10)
    assert sizes.positions == 10
    np.testing.assert_array_equal(
        grown[growth.POSITIONS], np.concatenate([table, table, table[:2]])
    )
    with pytest.raises(InputError, match="--positions=4 is not more than the 4 the model has"):
        growth.add_positions({growth.POSITIONS: table}, model, 4)


MOVED = (*"abc", *foreign.SPECIAL[::-1], "##b", "##a", "好", "中")
TOKENIZERS = {
    "WordPiece": wordpiece,
    "cased": lambda: wordpiece((*foreign.PIECES, "A"), lowercase=False, strip_accents=False),
    "special ids elsewhere": lambda: wordpiece(MOVED),
    "short words": lambda: wordpiece(max_word_characters=2),
    "Chinese words": chinese,
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_written_tokenizer_json_encodes_the_same(kind, tmp_path):
    ours = TOKENIZERS[kind]()
    vocabulary.write(ours, tmp_path, positions=77)
    theirs = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        ids = ours.encode(text, allow_special=True).ids
        special = ours.special
        assert theirs.encode(text).ids == [special.cls, *ids, special.sep]
    pair = theirs.encode("ab", "c")
    assert pair.type_ids == [0, 0, 0, 1, 1] or kind == "special ids elsewhere"
    said = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    assert (said["model_max_length"], said["pad_token"]) == (77, "[PAD]")


@pytest.mark.parametrize("kind", [*TOKENIZERS, "unigram"])
def test_a_written_tokenizer_is_read_back_as_the_same(kind, tmp_path):
    ours = {**TOKENIZERS, "unigram": unigram}[kind]()
    vocabulary.write(ours, tmp_path, positions=77)
    assert tokenizer.load(tmp_path).fingerprint == ours.fingerprint


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_json_alone_is_enough(kind, tmp_path):
    ours = TOKENIZERS[kind]()
    vocabulary.write(ours, tmp_path, positions=77)
    (tmp_path / "vocab.txt").unlink()
    if kind != "Chinese words":  # which Hugging Face's file has no name for
        (tmp_path / "tokenizer_config.json").unlink()
    assert tokenizer.load(tmp_path).fingerprint == ours.fingerprint


def test_added_tokens_come_after_the_vocabulary(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(foreign.PIECES), "utf-8")
    (tmp_path / "added_tokens.json").write_text('{"big": 23, "new": 22}')
    found = tokenizer.load(tmp_path)
    assert found.pieces == (*foreign.PIECES, "new", "big")
    (tmp_path / "added_tokens.json").write_text('{"big": 30}')
    with pytest.raises(InputError, match=r"added_tokens\.json gives no piece the id 22"):
        tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model": {"type": "Unigram", "vocab": []}}', "holds a Unigram tokenizer, and only"),
        ('{"model": ', "is no tokenizer of Hugging Face"),
        ("[]", "is no tokenizer of Hugging Face"),
        (
            '{"model": {"type": "WordPiece", "continuing_subword_prefix": "##"}}',
            "gives no pieces with ids",
        ),
        (
            '{"model": {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": {}},'
            ' "added_tokens": [{"content": "a"}]}',
            "must give each added token a content, an id and flags",
        ),
    ],
)
def test_another_tokenizer_json_is_refused(content, message, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=rf"tokenizer\.json {message}"):
        tokenizer.load(tmp_path)


BERT = normalizers.BertNormalizer
ACCENTS_OFF = normalizers.Sequence(
    [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]
)
WORDS = pre_tokenizers.BertPreTokenizer()
DIGITS = pre_tokenizers.Sequence([WORDS, pre_tokenizers.Digits()])
ISOLATED = pre_tokenizers.Sequence([WORDS, pre_tokenizers.Split("a", "isolated")])
NO_CLEANING = BERT(clean_text=False)


@pytest.mark.parametrize(
    ("normalizer", "splitter", "found"),
    [
        (ACCENTS_OFF, WORDS, "normalizer NFD, Lowercase, StripAccents, and only BertNorm"),
        (normalizers.Lowercase(), WORDS, "normalizer Lowercase, and only BertNormalizer, as"),
        (None, WORDS, "normalizer null, and only BertNormalizer, as BERT has it, is read from"),
        (NO_CLEANING, WORDS, "normalizer BertNormalizer without clean_text, and only"),
        (BERT(), pre_tokenizers.Whitespace(), "pre_tokenizer Whitespace, and only BertPre"),
        (BERT(), DIGITS, "pre_tokenizer BertPreTokenizer, Digits, and only BertPreTokenizer"),
        (BERT(), ISOLATED, "pre_tokenizer BertPreTokenizer, Split, and only BertPreTokenizer"),
        (BERT(), None, "pre_tokenizer null, and only BertPreTokenizer"),
    ],
)
@pytest.mark.parametrize("has_vocabulary", [True, False])
def test_words_made_otherwise_than_by_bert_are_refused(
    normalizer, splitter, found, has_vocabulary, tmp_path
):
    save_json(tmp_path, normalizer, splitter)
    if has_vocabulary:
        (tmp_path / "vocab.txt").write_text("\n".join(foreign.PIECES), "utf-8")
    with pytest.raises(InputError, match=rf"tokenizer\.json has the {found}"):
        tokenizer.load(tmp_path)


def save_json(directory, normalizer, splitter):
    ids = {piece: number for number, piece in enumerate(foreign.PIECES)}
    made = library.Tokenizer(library.models.WordPiece(ids, unk_token="[UNK]"))
    if normalizer is not None:
        made.normalizer = normalizer
    if splitter is not None:
        made.pre_tokenizer = splitter
    made.save(str(directory / "tokenizer.json"))


@pytest.mark.parametrize("steps", [BERT(lowercase=False), normalizers.Sequence([BERT()])])
def test_a_sequence_of_one_is_that_one(steps, tmp_path):
    save_json(tmp_path, steps, pre_tokenizers.Sequence([WORDS]))
    assert tokenizer.load(tmp_path).settings.lowercase == isinstance(steps, normalizers.Sequence)
