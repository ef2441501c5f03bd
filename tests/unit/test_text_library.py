"""Where the `tokenizers` library makes other words than BERT, and that training makes its words."""

import pytest
import small
from unit.test_text_tokenizers import basic_words, config, pieces

from bert_jax.text import tokenizer


@pytest.mark.parametrize(
    ("text", "ours", "theirs"),
    [
        ("a\ue000b \U000f0000", "ab", "a\ue000b \U000f0000"),
        ("a\U0002b820\U0002b91fb", "a\U0002b820\U0002b91fb", "a \U0002b820 \U0002b91f b"),
        ("a\U0002b81f\U0002b920b", "a \U0002b81f \U0002b920 b", "a \U0002b81f \U0002b920 b"),
        ("ΟΔΟΣ", "οδοσ", "οδος"),
        ("a\u2e43b", "a\u2e43b", "a \u2e43 b"),
    ],
)
def test_where_the_library_differs_from_the_original(text, ours, theirs):
    assert small.tokenizer().words(text) == ours.split()
    assert basic_words(text, lowercase=True) == theirs.split()


@pytest.mark.parametrize("chinese_words", [True, False])
def test_a_trained_vocabulary_has_all_that_it_was_trained_on(chinese_words):
    text = "x\U0002b820y \U0002b820\U0002b91f x\U0002b81f\U0002b920y"
    found = tokenizer.train(config(chinese_words=chinese_words), [text])
    assert "[UNK]" not in pieces(found, text)
