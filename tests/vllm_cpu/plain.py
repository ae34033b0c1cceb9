"""Plain `vllm.LLM.generate` over a model of ours: sentences as JSON on stdin, translations and seconds into a file."""

import json
import os
import sys
import time
from pathlib import Path

from processor_time import ProcessorTime
from vllm import LLM, SamplingParams


def main() -> None:
    folder, out = sys.argv[1:]
    sentences = json.load(sys.stdin)
    llm = LLM(folder, dtype="float32", enforce_eager=True, max_model_len=160, max_num_seqs=32, disable_log_stats=True)
    tokenizer = llm.get_tokenizer()
    llm.generate([{"prompt_token_ids": [1]}], SamplingParams(max_tokens=1), use_tqdm=False)
    watch, began = ProcessorTime(os.getpid()), time.monotonic()
    prompts = [{"prompt_token_ids": tokenizer(f"{sentence}<sep>")["input_ids"]} for sentence in sentences]
    limits = [SamplingParams(temperature=0.0, max_tokens=len(sentence) + 16) for sentence in sentences]
    outputs = [output.outputs[0] for output in llm.generate(prompts, limits, use_tqdm=False)]
    seconds, cpu = time.monotonic() - began, watch.stop()
    found = [" ".join(output.text.split()) if output.finish_reason == "stop" else None for output in outputs]
    tokens = sum(len(output.token_ids) for output in outputs)
    Path(out).write_text(json.dumps({"translations": found, "seconds": seconds, "tokens": tokens, "cpu": cpu}))


if __name__ == "__main__":
    main()
