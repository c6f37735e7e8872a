"""The names that published BERTs give to the weights of our text encoder, fusion layers and masked language head.

The names are those of Hugging Face transformers. Models with a masked language modelling head put `bert.` before the
names of the encoder; plain encoders do not.
"""

import re

from vmr.errors import ModelError

# Our prefix -> BERT's prefix. The first entry that a name starts with applies. `bert.` stands for the file's prefix.
_PARTS = {
    "text_encoder.embeddings.word.": "bert.embeddings.word_embeddings.",
    "text_encoder.embeddings.position.": "bert.embeddings.position_embeddings.",
    "text_encoder.embeddings.token_type.": "bert.embeddings.token_type_embeddings.",
    "text_encoder.embeddings.norm.": "bert.embeddings.LayerNorm.",
    "masked_lm_head.dense.": "cls.predictions.transform.dense.",
    "masked_lm_head.norm.": "cls.predictions.transform.LayerNorm.",
    "masked_lm_head.bias": "cls.predictions.bias",
}
_ATTENTION = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
}
_LAYER_PARTS = {
    **_ATTENTION,
    **{f"cross_{ours}": f"cross{theirs}" for ours, theirs in _ATTENTION.items()},
    "expand": "intermediate.dense",
    "contract": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_LAYER = re.compile(r"(text_encoder|fusion)\.layers\.(\d+)\.(.+)\.(weight|bias)")


def bert_name(name: str, num_text_layers: int, bert_prefix: str) -> str:
    """Give the name that a BERT has for one of our weights.

    BERT numbers its layers through, so the first fusion layer is BERT's layer `num_text_layers`.

    Args:
        name: our name, starting with `text_encoder.`, `fusion.` or `masked_lm_head.`.
        num_text_layers: layers of the text encoder.
        bert_prefix: the prefix of the encoder's names, `bert.` or empty.

    Returns:
        The name in the file, such as `bert.encoder.layer.0.output.dense.weight`.

    Raises:
        ModelError: BERT has no such weight.
    """
    layer = _LAYER.fullmatch(name)
    if layer and layer[3] in _LAYER_PARTS:
        index = int(layer[2]) + (num_text_layers if layer[1] == "fusion" else 0)
        return f"{bert_prefix}encoder.layer.{index}.{_LAYER_PARTS[layer[3]]}.{layer[4]}"
    for ours, theirs in _PARTS.items():
        if name.startswith(ours):
            return re.sub(r"^bert\.", bert_prefix, theirs) + name.removeprefix(ours)
    raise ModelError(f"{name}: BERT has no such weight")


def tied_copies(root: str, bert_prefix: str) -> dict[str, str]:
    """List the keys of a BERT file that only repeat another weight.

    Args:
        root: the prefix of BERT's names in the file, such as `text_encoder.`; may be empty.
        bert_prefix: the prefix of the encoder's names, `bert.` or empty.

    Returns:
        Key of the copy -> key of the weight that it repeats.
    """
    return {
        f"{root}cls.predictions.decoder.weight": f"{root}{bert_prefix}embeddings.word_embeddings.weight",
        f"{root}cls.predictions.decoder.bias": f"{root}cls.predictions.bias",
    }
