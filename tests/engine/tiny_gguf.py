"""A tiny random Llama as a GGUF file, written tensor by tensor."""

from pathlib import Path
from typing import cast

import gguf
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tests.tiny_models import CONFIGS, VOCABULARY, tiny_tokenizer

_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_tiny_gguf(path: Path) -> PreTrainedModel:
    """Write the tiny Llama of tests.tiny_models to `path` in fp32, and return the model that was written."""
    torch.manual_seed(0)
    model: PreTrainedModel = LlamaForCausalLM(cast(LlamaConfig, CONFIGS["llama"]()))
    writer = gguf.GGUFWriter(path, "llama")
    _write_sizes(writer, model)
    _write_tokenizer(writer)
    weights = model.state_dict()
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"].numpy())
    for layer in range(model.config.num_hidden_layers):
        for ours, theirs in _TENSORS.items():
            weight = weights[f"model.layers.{layer}.{ours}.weight"]
            if ours == "self_attn.q_proj":
                weight = _interleaved(weight, model.config.num_attention_heads)
            if ours == "self_attn.k_proj":
                weight = _interleaved(weight, model.config.num_key_value_heads)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """The order of rotary rows in GGUF: pairs side by side, where transformers keeps the halves apart."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def _write_sizes(writer: gguf.GGUFWriter, model: PreTrainedModel) -> None:
    config = model.config
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def _write_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokenizer = tiny_tokenizer()
    tokens = sorted(tokenizer.get_vocab(), key=lambda token: tokenizer.get_vocab()[token])
    tokens.append("ab")
    assert len(tokens) == VOCABULARY
    special = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
