"""BERT in plain numpy, one instance at a time: no batch, no padding, no packing, no mask.

Written from the paper (arXiv:1810.04805) and arXiv:1706.03762, with nothing of the
package but the names of its parameters.
"""

import math

import numpy as np

EPSILON = 1e-12


def gelu(x, form):
    """Hugging Face's exact form ("erf") or the original release's ("tanh")."""
    if form == "erf":
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def layer_norm(params, x):
    out = np.empty_like(x)
    for i, row in enumerate(x):
        variance = ((row - row.mean()) ** 2).mean()
        out[i] = (row - row.mean()) / math.sqrt(variance + EPSILON)
    return out * params["scale"] + params["bias"]


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def attention(params, x):
    """Every token of the instance sees every other, head by head."""
    _, heads, size = params["query"]["kernel"].shape
    out = np.zeros_like(x) + params["output"]["bias"]
    for head in range(heads):
        query, key, value = (
            x @ params[name]["kernel"][:, head] + params[name]["bias"][head]
            for name in ("query", "key", "value")
        )
        for i in range(len(x)):
            weights = softmax(key @ query[i] / math.sqrt(size))
            out[i] += (weights @ value) @ params["output"]["kernel"][head]
    return out


def encode(params, ids, segments, form):
    """One vector a token, from the ids of one instance."""
    tables = params["embeddings"]
    x = np.array(
        [
            tables["token"][token] + tables["position"][position] + tables["segment"][segment]
            for position, (token, segment) in enumerate(zip(ids, segments, strict=True))
        ]
    )
    x = layer_norm(tables["norm"], x)
    for layer in range(sum(name.startswith("layer_") for name in params)):
        block = params[f"layer_{layer}"]
        x = layer_norm(block["attention_norm"], x + attention(block["attention"], x))
        hidden = gelu(dense(block["feed_forward"]["intermediate"], x), form)
        hidden = dense(block["feed_forward"]["output"], hidden)
        x = layer_norm(block["feed_forward_norm"], x + hidden)
    return x


def class_logits(params, x, head):
    """From the pooled [CLS]; `head` is "next" or "classifier"."""
    pooled = np.tanh(dense(params["pooler"]["dense"], x[0]))
    return dense(params[head]["dense"], pooled)


def mlm_logits(params, x, positions, form):
    """Over the vocabulary, by the table the tokens were looked up in."""
    head = params["mlm"]
    hidden = layer_norm(head["norm"], gelu(dense(head["dense"], x[positions]), form))
    return hidden @ params["encoder"]["embeddings"]["token"].T + head["bias"]
