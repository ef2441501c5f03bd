"""The original's algorithm in plain Python (create_pretraining_data.py), and what compares with it.

Reference: google-research/bert, `create_instances_from_document`, sentence by sentence.
"""

import numpy as np
from hypothesis import strategies as st

from bert_jax.data.instances import DOES_NOT_FOLLOW, TokenizedDocument

# Bounds are this many standard errors wide; the seeds are fixed, so nothing flickers.
SIGMAS = 4.5

sentence_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=12)
corpora = st.lists(sentence_lengths, min_size=1, max_size=5)


def slow_instances(documents, index, length, short_probability, rng):
    """The original's algorithm, sentence by sentence, with Python's generator."""
    longest = length - 3
    target = rng.randint(2, longest) if rng.random() < short_probability else longest
    waiting = list(documents[index])
    found = []
    while waiting:
        chunk = [waiting.pop(0)]
        while waiting and sum(map(len, chunk)) < target:
            chunk.append(waiting.pop(0))
        of_a = rng.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
        a, left = flatten(chunk[:of_a]), chunk[of_a:]
        is_random = not left or rng.random() < 0.5
        if is_random:
            waiting = left + waiting
            other = rng.randrange(len(documents))
            for _ in range(9):
                if other != index:
                    break
                other = rng.randrange(len(documents))
            sentence = rng.randrange(len(documents[other]))
            b = list(documents[other][sentence])
            while len(b) < target - len(a) and sentence + 1 < len(documents[other]):
                sentence += 1
                b += documents[other][sentence]
        else:
            b = flatten(left)
        while len(a) + len(b) > longest:
            longer = a if len(a) > len(b) else b
            longer.pop(0 if rng.random() < 0.5 else -1)
        found.append((tuple(a), tuple(b), is_random))
    return found


def number_tokens(lengths):
    """A corpus in which every token is another number, so that each can be traced."""
    numbers = iter(range(10**6))
    return [[[next(numbers) for _ in range(n)] for n in document] for document in lengths]


def flatten(sentences):
    return [token for sentence in sentences for token in sentence]


def tokenized(documents):
    return [
        TokenizedDocument(np.array(flatten(document)), np.cumsum([*map(len, document)]))
        for document in documents
    ]


def plain(instances):
    return [(a.tolist(), b.tolist(), label == DOES_NOT_FOLLOW) for a, b, label in instances]


def contains_run(tokens, run):
    return any(tokens[i : i + len(run)] == list(run) for i in range(len(tokens) - len(run) + 1))
