#!/usr/bin/env python3
"""One run of llama.cpp, through the C interface of llama-cpp-python, in a process of its own. Prints one JSON object.

    llama_bench.py MODEL.gguf -p 512 -d 128 -n 64 -t 2      prefill of 512 tokens, then 64 decoded one by one behind 128
    llama_bench.py MODEL.gguf --ready -t 2                  seconds until the first token of an answer is chosen

Only llama_decode is timed, after one warm-up, with a batch and micro-batch of 512, keys and values in f16, and the file mapped: its
defaults, and those of llama-bench. --ready counts from the call that opens the file; starting Python and loading the library are left out.
"""
import argparse
import ctypes
import json
import resource
import sys
import time

try:
    import llama_cpp as llama
    import numpy as np
except ImportError:
    sys.exit("llama_bench.py: llama-cpp-python is missing: CMAKE_ARGS=-DGGML_NATIVE=ON pip install -r Benchmarks/peer/requirements.txt")


class Engine:
    def __init__(self, path: str, threads: int, context: int, repack: bool = True):
        llama.llama_log_set(quiet, ctypes.c_void_p(0))
        llama.llama_backend_init()
        loading = llama.llama_model_default_params()
        loading.use_extra_bufts = repack
        self.model = llama.llama_model_load_from_file(path.encode(), loading)
        if not self.model:
            sys.exit(f"llama_bench.py: {path}: llama.cpp cannot load it")
        parameters = llama.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = context, 512, 512
        parameters.n_threads = parameters.n_threads_batch = threads
        self.context = llama.llama_init_from_model(self.model, parameters)
        if not self.context:
            sys.exit("llama_bench.py: llama.cpp cannot make a context")
        self.vocabulary = llama.llama_model_get_vocab(self.model)
        self.size = llama.llama_vocab_n_tokens(self.vocabulary)

    def decode(self, tokens: list[int]) -> float:
        """Feeds tokens in batches of 512 and returns the seconds that took, the head for the last token of each batch included."""
        seconds = 0.0
        for first in range(0, len(tokens), 512):
            part = tokens[first:first + 512]
            array = (llama.llama_token * len(part))(*part)
            batch = llama.llama_batch_get_one(array, len(part))
            start = time.perf_counter()
            status = llama.llama_decode(self.context, batch)
            llama.llama_synchronize(self.context)
            seconds += time.perf_counter() - start
            if status != 0:
                sys.exit(f"llama_bench.py: llama_decode returned {status}")
        return seconds

    def best(self) -> int:
        """The token with the largest logit."""
        return int(np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, -1), (self.size,)).argmax())

    def clear(self):
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)


@llama.llama_log_callback
def quiet(level, text, data):
    if level == 4:  # errors; 5 goes on with the line before
        sys.stderr.write(text.decode(errors="replace"))


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ready(arguments) -> dict:
    start = time.perf_counter()
    engine = Engine(arguments.model, arguments.threads, 512)
    text = b"Water on the floor next to pump 4"
    tokens = (llama.llama_token * 64)()
    count = llama.llama_tokenize(engine.vocabulary, text, len(text), tokens, 64, True, False)
    engine.decode(list(tokens[:count]))
    engine.best()
    return {"ready_s": time.perf_counter() - start}


def speed(arguments) -> dict:
    engine = Engine(arguments.model, arguments.threads, max(arguments.prefill, arguments.depth + arguments.decode) + 64, not arguments.no_repack)
    tokens = [i * 7919 % engine.size for i in range(max(arguments.prefill, arguments.depth + arguments.decode))]
    engine.decode(tokens[:1 if arguments.no_repack else 16])  # touches every weight once, or all but experts where these do not fit into memory
    engine.clear()
    result = {"model_bytes": llama.llama_model_size(engine.model)}
    if arguments.prefill:
        result |= {"prefill_tokens": arguments.prefill, "prefill_tokens_per_s": arguments.prefill / engine.decode(tokens[:arguments.prefill])}
    if arguments.decode:
        if arguments.prefill != arguments.depth:
            engine.clear()
            engine.decode(tokens[:arguments.depth])
        seconds = sum(engine.decode([token]) for token in tokens[arguments.depth:arguments.depth + arguments.decode])
        result |= {"decode_tokens": arguments.decode, "depth": arguments.depth, "decode_tokens_per_s": arguments.decode / seconds}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-p", "--prefill", type=int, default=512)
    parser.add_argument("-n", "--decode", type=int, default=64)
    parser.add_argument("-d", "--depth", type=int, default=128, help="tokens in front of the decoded ones")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--ready", action="store_true")
    parser.add_argument("--no-repack", action="store_true", help="use weights where they are mapped, as a model larger than memory needs it")
    arguments = parser.parse_args()
    result = ready(arguments) if arguments.ready else speed(arguments)
    print(json.dumps({"version": llama.__version__, "threads": arguments.threads, **result, "peak_rss_bytes": peak()}))


if __name__ == "__main__":
    main()
