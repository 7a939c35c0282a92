"""Folders with tokenizers of the makes that models in use come with: their pipelines in full, small vocabularies."""

import json
from functools import cache
from pathlib import Path

from tokenizer_corpus import corpus
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_SPLIT = QWEN_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

LLAMA2_CHAT = """\
{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + eos_token }}{% endif %}{% endfor %}"""
LLAMA3_CHAT = """\
{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + \
message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}\
{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}\
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""
PHI3_CHAT = """\
{% for message in messages %}{{'<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"""
GEMMA_CHAT = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}\
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"""
QWEN_CHAT = """\
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n<tools>' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length) %}
{%- for message in messages %}
    {%- if message.role == "assistant" and message.tool_calls %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {{- '\\n<tool_call>\\n{"name": "' + tool_call.function.name + '"}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


@cache
def byte_level_parts(split: str | None, size: int = 700) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE; `split` None: GPT-2's."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = byte_level_split(split)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        corpus(), trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(backend.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def byte_level_split(split: str | None):
    if split is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def byte_level(split: str | None, **model) -> Tokenizer:
    vocab, merges = byte_level_parts(split)
    backend = Tokenizer(models.BPE(vocab=dict(vocab), merges=list(merges), **model))
    backend.pre_tokenizer = byte_level_split(split)
    backend.decoder = decoders.ByteLevel()
    return backend


@cache
def fallback_parts(size: int = 900) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a BPE with byte fallback: `<unk>`, `<s>`, `</s>`, the bytes, then pieces."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    names = ["<unk>", "<s>", "</s>", *BYTES]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=names, limit_alphabet=90, show_progress=False)
    backend.train_from_iterator(corpus(), trainer)
    model = json.loads(backend.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def with_fallback(*, strip: bool) -> Tokenizer:
    vocab, merges = fallback_parts()
    model = models.BPE(vocab=dict(vocab), merges=list(merges), byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    backend = Tokenizer(model)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if strip else [])])
    add_special(backend, "<unk>", "<s>", "</s>")
    return backend


def add_special(backend: Tokenizer, *names: str, **settings) -> None:
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False, **settings) for name in names])


def begin_with(backend: Tokenizer, bos: str) -> None:
    backend.post_processor = processors.TemplateProcessing(
        single=[bos, "$A"], pair=[bos, "$A", f"{bos}:1", "$B:1"], special_tokens=[(bos, backend.token_to_id(bos))]
    )


def gpt_neox() -> tuple[Tokenizer, dict]:
    backend = byte_level(None)
    backend.normalizer = normalizers.NFC()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    add_special(backend, "<|endoftext|>", "<|padding|>")
    backend.add_tokens([AddedToken(" " * run, normalized=True) for run in range(24, 1, -1)])
    end = "<|endoftext|>"
    config = {"bos_token": end, "eos_token": end, "unk_token": end, "tokenizer_class": "GPTNeoXTokenizer"}
    return backend, {"tokenizer_config.json": config, "config.json": {"model_type": "gpt_neox", "eos_token_id": 700}}


def phi2() -> tuple[Tokenizer, dict]:
    backend = byte_level(None)
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    add_special(backend, "<|endoftext|>")
    backend.add_tokens([AddedToken(" " * run, normalized=True) for run in range(31, 1, -1)])
    backend.add_tokens([AddedToken("\t" * run, normalized=True) for run in range(9, 1, -1)])
    end = "<|endoftext|>"
    config = {"bos_token": end, "eos_token": end, "unk_token": end, "tokenizer_class": "CodeGenTokenizer"}
    return backend, {"tokenizer_config.json": config, "config.json": {"model_type": "phi"}}


def qwen2() -> tuple[Tokenizer, dict]:
    backend = byte_level(QWEN_SPLIT)
    backend.normalizer = normalizers.NFC()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    add_special(backend, "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>")
    names = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<think>", "</think>"]
    backend.add_tokens([AddedToken(name, normalized=False) for name in names])
    end, pad = "<|im_end|>", "<|endoftext|>"
    config = {"add_bos_token": False, "bos_token": None, "eos_token": end, "pad_token": pad, "unk_token": None}
    extra = {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "chat_template": QWEN_CHAT}
    ids = [backend.token_to_id(end), backend.token_to_id(pad)]
    return backend, {
        "tokenizer_config.json": {**config, **extra, "tokenizer_class": "Qwen2Tokenizer"},
        "generation_config.json": {"eos_token_id": ids, "pad_token_id": ids[1]},
        "config.json": {"model_type": "qwen2", "eos_token_id": ids[0]},
    }


def llama3() -> tuple[Tokenizer, dict]:
    backend = byte_level(LLAMA_SPLIT, ignore_merges=True)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>"]
    add_special(backend, *names, "<|eot_id|>", "<|reserved_special_token_0|>")
    begin_with(backend, "<|begin_of_text|>")
    config = {"bos_token": names[0], "eos_token": "<|eot_id|>", "clean_up_tokenization_spaces": False}
    ids = [backend.token_to_id(name) for name in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")]
    return backend, {
        "tokenizer_config.json": {**config, "chat_template": LLAMA3_CHAT, "tokenizer_class": "PreTrainedTokenizerFast"},
        "generation_config.json": {"eos_token_id": ids, "bos_token_id": backend.token_to_id(names[0])},
        "config.json": {"model_type": "llama", "eos_token_id": ids},
    }


def smollm() -> tuple[Tokenizer, dict]:
    backend = byte_level(None)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    add_special(backend, "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>")
    config = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"}
    # Published with the class GPT2Tokenizer, which makes transformers 5 overlook that digits are split.
    more = {"pad_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": QWEN_CHAT}
    return backend, {"tokenizer_config.json": config | more, "config.json": {"model_type": "llama"}}


def llama2() -> tuple[Tokenizer, dict]:
    backend = with_fallback(strip=True)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    begin_with(backend, "<s>")
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    return backend, {
        "tokenizer_config.json": config | {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": LLAMA2_CHAT},
        "config.json": {"model_type": "llama", "eos_token_id": 2},
    }


def mistral() -> tuple[Tokenizer, dict]:
    backend, files = llama2()
    backend.normalizer = None
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    files["tokenizer_config.json"]["tokenizer_class"] = "LlamaTokenizer"
    return backend, files | {"config.json": {"model_type": "mistral"}, "generation_config.json": {"eos_token_id": 2}}


def phi3() -> tuple[Tokenizer, dict]:
    backend = with_fallback(strip=True)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    add_special(backend, "<|endoftext|>")
    add_special(backend, "<|assistant|>", "<|system|>", "<|end|>", "<|user|>", rstrip=True)
    begin_with(backend, "<s>")
    end = "<|endoftext|>"
    config = {"bos_token": "<s>", "eos_token": end, "pad_token": end, "unk_token": "<unk>", "chat_template": PHI3_CHAT}
    ids = [backend.token_to_id(name) for name in ("<|endoftext|>", "<|assistant|>", "<|end|>")]
    return backend, {
        "tokenizer_config.json": config | {"tokenizer_class": "LlamaTokenizer"},
        "generation_config.json": {"eos_token_id": ids},
        "config.json": {"model_type": "phi3"},
    }


def gemma() -> tuple[Tokenizer, dict]:
    backend = with_fallback(strip=False)
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    add_special(backend, "<start_of_turn>", "<end_of_turn>")
    backend.add_tokens([AddedToken("▁" * run, normalized=False) for run in range(2, 8)])
    backend.add_tokens([AddedToken("\n" * run, normalized=False) for run in range(2, 5)])
    begin_with(backend, "<s>")
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": GEMMA_CHAT}
    ids = [backend.token_to_id(name) for name in ("</s>", "<end_of_turn>")]
    return backend, {
        "tokenizer_config.json": config | {"tokenizer_class": "GemmaTokenizer"},
        "generation_config.json": {"eos_token_id": ids},
        "config.json": {"model_type": "gemma3_text"},
    }


def unigram() -> tuple[Tokenizer, dict]:
    pieces = [(name, 0.0) for name in ("<unk>", "<s>", "</s>", *BYTES)]
    pieces += [(name, -2.0 - place / 100) for place, name in enumerate(fallback_parts()[0]) if place >= len(pieces)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")])
    add_special(backend, "<unk>", "<s>", "</s>")
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": LLAMA2_CHAT}
    return backend, {"tokenizer_config.json": config | {"tokenizer_class": "PreTrainedTokenizerFast"}}


MAKES = {make.__name__: make for make in (gpt_neox, phi2, qwen2, llama3, smollm, llama2, mistral, phi3, gemma, unigram)}


def write_folder(make: str, folder: Path) -> Path:
    """A folder as the makers of such a model publish it, without the model."""
    backend, files = MAKES[make]()
    folder.mkdir(parents=True)
    backend.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder
