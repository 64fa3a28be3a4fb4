"""Generation contenders, each run in its own process: `python -m benchmarks.decoders NAME --folder F --threads 1`.

    axion-native, +bf16, +int8        Axion's compiled decoder with fp32 or other weights; `axion-native:alone` writes a
                                      batch as independent texts
    axion-stream                      the stream behind the page, the API and the command line, including each step's
                                      routing; axion-stream-torch is the same without the kernels
    axion-torch                       Axion's PyTorch model in a plain loop with a KV cache
    remote-code                       a release in transformers' `generate`, with the release's own code
    transformers                      its DeepseekV3ForCausalLM in `generate`; `transformers:eager` selects that
                                      experts_implementation, `transformers+bf16` bf16 weights
    llama-f32, llama-q8_0             llama.cpp with the release as GGUF

All decode greedily and ignore end-of-text tokens. FOLDER is a release; for the last two rows it is an export. Kinds of
work:

    decode     NEW_TOKENS tokens after a short prompt
    first      one token after the same prompt
    prefill    a full context, read at once
    batch      BATCH texts at once, BATCH_TOKENS tokens after each prompt
    late       LATE_TOKENS tokens at the end of a full context, without its prefill

"ready" carries the generated text.
"""

import argparse
import os
import random
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from axion.machine import keep_freed_memory
from benchmarks.workers import Done, Work, serve, timed

PROMPT_TOKENS = 32
NEW_TOKENS = 256
LATE_TOKENS = 64
BATCH = 8
BATCH_TOKENS = 64


@dataclass(frozen=True)
class Decoder:
    """What a contender can do; None for what it cannot."""

    write: Callable[[Sequence[int], int], list[int]]
    """Generates that many tokens after a prompt, with a fresh cache."""
    context: int
    vocabulary: int
    read: Callable[[Sequence[int]], object] | None = None
    """Prefills a prompt into a fresh cache."""
    continue_text: Callable[[int], object] | None = None
    """Generates that many tokens after what was read."""
    batch: Callable[[list[list[int]], int], object] | None = None
    """`write` for several prompts."""


def prepare(options: argparse.Namespace) -> tuple[dict[str, Work], dict]:
    """The kinds of work that the contender supports, and its text."""
    keep_freed_memory()
    engine, _, setting = options.name.partition("+")
    decoder = BUILDERS[engine.partition(":")[0]](options, engine.partition(":")[2], setting)
    draw = random.Random(0)

    def ids(count: int) -> list[int]:
        return [draw.randrange(16, decoder.vocabulary) for _ in range(count)]

    prompts, window = [ids(PROMPT_TOKENS) for _ in range(BATCH)], ids(decoder.context)
    count = min(NEW_TOKENS, decoder.context - PROMPT_TOKENS)  # `growth` also uses shorter contexts
    kinds: dict[str, Work] = {
        "decode": lambda: timed(lambda: decoder.write(prompts[0], count), count),
        "first": lambda: timed(lambda: decoder.write(prompts[0], 1), 1),
    }
    if read := decoder.read:
        kinds["prefill"] = lambda: timed(lambda: read(window), len(window))
    if batch := decoder.batch:
        kinds["batch"] = lambda: timed(lambda: batch(prompts, BATCH_TOKENS), BATCH * BATCH_TOKENS)
    if read and (continue_text := decoder.continue_text):

        def late() -> Done:
            read(window[:-LATE_TOKENS])
            return timed(lambda: continue_text(LATE_TOKENS), LATE_TOKENS)

        kinds["late"] = late
    wanted = [kind for kind in options.kinds.split(",") if kind in kinds]
    text = decoder.write(prompts[0], count)
    for kind in wanted:
        if kind != "decode":
            kinds[kind]()
    return kinds, {"kinds": wanted, "text": text}


# --- Axion ------------------------------------------------------------------------------------------------------------


def build_native(options: argparse.Namespace, way: str, setting: str) -> Decoder:
    """The compiled decoder; a batch runs one decoder per text, all together or, as `:alone`, in a thread each."""
    from axion.kernels.decoder import NativeDecoder, draw_several
    from axion.release import open_release

    model, weights = open_release(options.folder).model, setting or "fp32"
    decoder = NativeDecoder(model, weights, options.threads)

    def write(prompt: Sequence[int], count: int, one: NativeDecoder = decoder) -> list[int]:
        one.rewind(0)
        one.read(prompt)
        return [token for _ in range(count) if (token := one.draw()) is not None]  # never None: no token ends the text

    def read(ids: Sequence[int]) -> None:
        decoder.rewind(0)
        decoder.read(ids)

    def continue_text(count: int) -> None:
        for _ in range(count):
            decoder.draw()

    texts = [NativeDecoder(model, weights, 1 if way == "alone" else options.threads) for _ in range(BATCH)]
    pool = ThreadPoolExecutor(options.threads)

    def batch(prompts: list[list[int]], count: int) -> None:
        if way == "alone":
            list(pool.map(write, prompts, [count] * len(prompts), texts))
            return
        for text, prompt in zip(texts, prompts, strict=True):
            text.rewind(0)
            text.read(prompt)
        for _ in range(count):
            draw_several(texts)

    config = model.config
    return Decoder(write, config.max_position_embeddings, config.vocab_size, read, continue_text, batch)


def build_stream(options: argparse.Namespace, backend: str) -> Decoder:
    """`axion.inference.stream.stream`, which may end the text only at the last token."""
    import torch

    from axion.inference.sampling import Sampling
    from axion.inference.stream import stream
    from axion.release import open_release

    torch.set_num_threads(options.threads)
    release = open_release(options.folder)
    model, tokenizer = release.model, release.tokenizer

    def write(prompt: Sequence[int], count: int) -> list[int]:
        sampling = Sampling(max_new_tokens=count, min_new_tokens=count)
        steps = stream(model, tokenizer, prompt, sampling, backend=backend)
        return [step.token_id for step in steps if not step.is_prompt]

    return Decoder(write, model.config.max_position_embeddings, model.config.vocab_size)


def build_torch(options: argparse.Namespace, *_: str) -> Decoder:
    """A plain greedy loop."""
    import torch
    from transformers.cache_utils import DynamicCache

    from axion.release import open_release

    torch.set_num_threads(options.threads)
    model = open_release(options.folder).model
    cache, last_B1 = DynamicCache(config=model.config), torch.empty(0, 1, dtype=torch.long)

    @torch.inference_mode()
    def read(ids: Sequence[int] | Sequence[Sequence[int]]) -> None:
        nonlocal cache, last_B1
        cache = DynamicCache(config=model.config)
        ids_BS = torch.tensor(ids).view(-1, len(ids)) if isinstance(ids[0], int) else torch.tensor(ids)
        last_B1 = likeliest(ids_BS)

    def likeliest(ids_BS: torch.Tensor) -> torch.Tensor:
        logits_B1V = model(ids_BS, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return logits_B1V.argmax(-1)

    @torch.inference_mode()
    def continue_text(count: int) -> list[int]:
        nonlocal last_B1
        tokens = []
        for _ in range(count):
            tokens += last_B1[0].tolist()
            last_B1 = likeliest(last_B1)
        return tokens

    def write(prompt: Sequence[int], count: int) -> list[int]:
        read(prompt)
        return continue_text(count - 1) + last_B1[0].tolist()

    def batch(prompts: list[list[int]], count: int) -> None:
        read(prompts)
        continue_text(count - 1)

    return Decoder(write, model.config.max_position_embeddings, model.config.vocab_size, read, continue_text, batch)


# --- transformers -----------------------------------------------------------------------------------------------------


def build_generate(options: argparse.Namespace, experts: str, setting: str, remote: bool) -> Decoder:
    """transformers' `generate`, with a release's remote code or with transformers' own DeepSeek-V3."""
    os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="axion-benchmark-modules-")
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(options.threads)
    dtype = torch.bfloat16 if setting == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=dtype, trust_remote_code=remote).eval()
    if experts:
        model.set_experts_implementation(experts)
    model.generation_config.eos_token_id = None

    def batch(prompts: list[list[int]], count: int) -> list[int]:
        ids_BS = torch.tensor(prompts)
        mask_BS = torch.ones_like(ids_BS)
        settings = {"do_sample": False, "max_new_tokens": count}
        texts_BS = model.generate(ids_BS, attention_mask=mask_BS, **settings)  # pyright: ignore[reportAttributeAccessIssue] (Auto classes' stubs)
        return texts_BS[0].tolist()

    def write(prompt: Sequence[int], count: int) -> list[int]:
        return batch([list(prompt)], count)[len(prompt) :]

    @torch.inference_mode()
    def read(ids: Sequence[int]) -> None:
        model(torch.tensor([ids]), use_cache=True, logits_to_keep=1)

    return Decoder(write, model.config.max_position_embeddings, model.config.vocab_size, read, None, batch)


def build_llama(options: argparse.Namespace, _: str, __: str) -> Decoder:
    """llama.cpp through its C API."""
    from benchmarks.llama import Llama

    file = next(Path(options.folder).glob(f"*-{options.name.removeprefix('llama-')}.gguf"))
    model = Llama(file, options.threads, BATCH)
    return Decoder(model.write, model.context, model.vocabulary, model.read, model.continue_text, model.batch)


BUILDERS: dict[str, Callable[[argparse.Namespace, str, str], Decoder]] = {
    "axion-native": build_native,
    "axion-stream": lambda options, *_: build_stream(options, backend="native"),
    "axion-stream-torch": lambda options, *_: build_stream(options, backend="torch"),
    "axion-torch": build_torch,
    "remote-code": lambda *setting: build_generate(*setting, remote=True),
    "transformers": lambda *setting: build_generate(*setting, remote=False),
    "llama-f32": build_llama,
    "llama-q8_0": build_llama,
}


def main() -> None:
    """Serve one contender."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--kinds", default="decode,first,prefill,batch", help="the kinds of work to warm up")
    options = parser.parse_args()
    serve(lambda: prepare(options))


if __name__ == "__main__":
    main()
