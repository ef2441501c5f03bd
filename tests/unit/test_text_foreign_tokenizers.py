"""Tokenizers of others: those that cut text as BERT does are read, all others are refused."""

import json

import foreign
import pytest
import sentencepiece

from bert_jax.errors import InputError
from bert_jax.interchange import vocabulary
from bert_jax.text import tokenizer

TEXTS = ["a big red fox ran", "the fox is big and red"] * 20


def save(directory, pieces=foreign.PIECES, **files):
    (directory / "vocab.txt").write_text("\n".join(pieces) + "\n", "utf-8")
    say(directory, **files)
    return directory


def say(directory, **files):
    for name, values in files.items():
        (directory / f"{name}.json").write_text(json.dumps(values), "utf-8")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "the tokenizer_class BertJapaneseTokenizer"),
        ({"tokenizer_class": "RoFormerTokenizerFast"}, "the tokenizer_class RoFormerTokenizer"),
        ({"tokenizer_class": "KoBertTokenizer"}, "the tokenizer_class KoBertTokenizer, of which"),
        ({"tokenizer_class": "Bert"}, "the tokenizer_class Bert, of which"),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, "a tokenizer with the tokenizer.json it"),
        ({"word_tokenizer_type": "mecab"}, 'word_tokenizer_type "mecab", .* by "basic"'),
        ({"subword_tokenizer_type": "character"}, 'subword_tokenizer_type "character", .*piece'),
        ({"do_basic_tokenize": False}, "do_basic_tokenize false, .* by true"),
        ({"do_subword_tokenize": False}, "do_subword_tokenize false"),
    ],
)
def test_what_cuts_text_otherwise_than_bert_is_refused(said, message, tmp_path):
    with pytest.raises(InputError, match=rf"tokenizer_config\.json has .*{message}"):
        tokenizer.load(save(tmp_path, tokenizer_config=said))


def test_a_class_that_only_the_models_config_names_is_refused(tmp_path):
    save(tmp_path, config={"tokenizer_class": "BertJapaneseTokenizer"}, tokenizer_config={})
    with pytest.raises(InputError, match=r"/config\.json has the tokenizer_class BertJapaneseTok"):
        tokenizer.load(tmp_path / "vocab.txt")


@pytest.mark.parametrize(
    "said",
    [
        {"tokenizer_class": "BertTokenizerFast", "do_basic_tokenize": True},
        {"tokenizer_class": "DistilBertTokenizer", "word_tokenizer_type": None},
        {"tokenizer_class": "ElectraTokenizer", "word_tokenizer_type": "basic"},
        {"tokenizer_class": None, "subword_tokenizer_type": "wordpiece"},
    ],
)
def test_what_cuts_text_as_bert_does_is_read(said, tmp_path):
    save(tmp_path, config={"model_type": "bert"}, tokenizer_config=said)
    assert tokenizer.load(tmp_path).encode("ab b").ids == [19, 6]


def test_a_vocabulary_with_the_spaces_of_sentence_piece_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"vocab\.txt has pieces of SentencePiece, with ▁ for"):
        tokenizer.load(save(tmp_path, (*foreign.PIECES, "▁a", "▁b", "▁c")))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A .model as others make them, which leaves capitals and accents alone."""
    prefix = tmp_path_factory.mktemp("model") / "spiece"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_prefix=str(prefix),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=3,
        user_defined_symbols=["<mask>"],
    )
    return prefix.with_suffix(".model").read_bytes()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"do_lower_case": True}, "do_lower_case true, and nothing is done .* set it to false in"),
        ({"keep_accents": False}, "keep_accents false, and nothing is done .* set it to true"),
        (
            {"tokenizer_class": "AlbertTokenizerFast", "keep_accents": None},
            "do_lower_case true and keep_accents false, as AlbertTokenizer has it where it is not",
        ),
        (
            {"tokenizer_class": "XLNetTokenizer", "do_lower_case": True},
            "do_lower_case true and keep_accents false, as XLNetTokenizer has it",
        ),
    ],
)
def test_text_that_is_changed_before_the_model_is_refused(said, message, model, tmp_path):
    (tmp_path / "spiece.model").write_bytes(model)
    say(tmp_path, tokenizer_config=said)
    with pytest.raises(InputError, match=rf"tokenizer_config\.json has {message}"):
        tokenizer.load(tmp_path)


def test_a_model_of_others_goes_out_and_back(model, tmp_path):
    (tmp_path / "spiece.model").write_bytes(model)
    say(tmp_path, tokenizer_config={"do_lower_case": False, "tokenizer_class": "T5Tokenizer"})
    found = tokenizer.load(tmp_path)
    vocabulary.write(found, tmp_path / "out", positions=9)
    said = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text("utf-8"))
    assert (said["do_lower_case"], said["keep_accents"]) == (False, True)
    assert tokenizer.load(tmp_path / "out").fingerprint == found.fingerprint


def test_a_token_beside_the_model_is_refused(model, tmp_path):
    (tmp_path / "spiece.model").write_bytes(model)
    say(tmp_path, added_tokens={"[MASK]": 4, "<mask>": 4})
    tokenizer.load(tmp_path)
    say(tmp_path, added_tokens={"<mask>": 4, "[E1]": 41})
    with pytest.raises(InputError, match=r"added_tokens\.json has the added token '\[E1\]', which"):
        tokenizer.load(tmp_path)
