"""Which architectures the engine's step loop can run, decided from the configuration before any weight is read."""

from typing import cast

from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from server.errors import BaseModelError

__all__ = ["causal_model_class", "check_weights", "served_layer_types"]

served_layer_types = frozenset({"full_attention", "sliding_attention"})


def causal_model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The model class that `config` stands for, once it is known that the engine can run it.

    Raises:
        BaseModelError: the architecture is not a causal language model, or needs what the engine has not got.
    """
    kind = config.model_type
    if config.is_encoder_decoder:
        raise _refusal(kind, "it is an encoder-decoder model; only decoder-only models are served")
    if config.get_text_config() is not config:
        raise _refusal(kind, "it is multi-modal; give its language model saved on its own")
    mapping = AutoModelForCausalLM._model_mapping
    if type(config) not in mapping:
        raise _refusal(kind, "transformers has no causal language model for it")
    model_class = cast(type[PreTrainedModel], mapping[type(config)])
    if getattr(config, "is_decoder", None) is False:
        raise _refusal(kind, "it attends in both directions (is_decoder is false)")
    if model_class._is_stateful:
        raise _refusal(kind, "it carries a recurrent state, which the paged KV cache cannot hold")
    unserved = sorted(set(getattr(config, "layer_types", None) or ()) - served_layer_types)
    if unserved:
        raise _refusal(
            kind, f"it has layers of the type {', '.join(unserved)}; only full and sliding-window attention are served"
        )
    if not model_class._supports_attention_backend:
        raise _refusal(kind, f"{model_class.__name__} does not use the transformers attention interface")
    if getattr(config, "kv_lora_rank", None):
        raise _refusal(kind, "its latent attention has keys and values of different widths")
    if getattr(config, "num_kv_shared_layers", None):
        raise _refusal(kind, "its layers share keys and values with one another")
    return model_class


def check_weights(model: PreTrainedModel) -> None:
    """Refuse a model whose attention has learnt sinks: the engine's attention would leave them out.

    Raises:
        BaseModelError: naming the parameter.
    """
    for name, _ in model.named_parameters():
        if name.endswith(".sinks"):
            raise _refusal(model.config.model_type, f"its attention has learnt sinks ({name}), which are not served")


def _refusal(kind: str, reason: str) -> BaseModelError:
    return BaseModelError(f"a base of the type {kind!r} cannot be served: {reason}", param="base")
