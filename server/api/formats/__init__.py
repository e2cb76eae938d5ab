"""How each endpoint writes its answers: OpenAI's, LoRAX's, whole and as a stream."""
