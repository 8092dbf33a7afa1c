"""Makes a tiny random model: two layers of Qwen2's architecture, 512 tokens of context.

Usage: tiny.py DIRECTORY TEXT. The tokenizer is trained on TEXT.
"""

import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

directory, text = sys.argv[1:]
end, start, stop = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train(
    [text],
    trainers.BpeTrainer(
        vocab_size=1000, special_tokens=[end, start, stop], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    ),
)
saved = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=stop, pad_token=end)
saved.chat_template = (
    "{% for m in messages %}" + start + "{{ m.role }}\n{{ m.content }}" + stop + "\n{% endfor %}"
    "{% if add_generation_prompt %}" + start + "assistant\n{% endif %}"
)
saved.save_pretrained(directory)

torch.manual_seed(0)
config = Qwen2Config(
    vocab_size=len(tokenizer.get_vocab()),
    hidden_size=256,  # heads of 64: vLLM's attention on a CPU takes none of 16
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    tie_word_embeddings=True,
    bos_token_id=tokenizer.token_to_id(end),
    eos_token_id=tokenizer.token_to_id(stop),
)
Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
