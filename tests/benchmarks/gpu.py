"""`make bench-gpu`: training, recognition and a profile on a GPU, as Markdown tables.

python tests/benchmarks/gpu.py [train] [decode] [profile]

Batches are of made-up utterances of 6, 10 and 16 s with 3.3 tokens a second of 10,000, in turn.
"""

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

import xlst_ray.audio._torchaudio  # noqa: F401  # transformers imports torchaudio, which needs this beside a CPU torch
from xlst_ray.batches.batch import Batch
from xlst_ray.model.beam import BeamOptions, recognise
from xlst_ray.model.options import ModelOptions
from xlst_ray.model.s2t import S2TModel
from xlst_ray.model.speech2text import save_speech2text
from xlst_ray.train.flops import count_flops, peak
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.speech import SpeechTask
from xlst_ray.train.step import AUTOCAST_TO, World, update_model
from xlst_ray.train.task import Shape

VOCABULARY: Final = 10_000
SECONDS: Final = (6, 10, 16)
TOKENS_A_SECOND: Final = 3.3
GIB: Final = 2**30
FRAMES: Final = (40_000, 160_000, 480_000)  # of a batch
WARM_UP, UPDATES = 6, 15
SIZES: Final = {
    "s, transformer": ModelOptions(size="s"),
    "s, conformer": ModelOptions(size="s", encoder="conformer"),
}


@dataclass(frozen=True)
class Side:
    """A model that is trained, update by update; `work` is (audio seconds, FLOPs) of each batch."""

    update: Callable[[int], float]
    work: list[tuple[float, float]]


def shapes(frames: int) -> list[Shape]:
    """Of batches of so many frames."""
    return [Shape(frames // (100 * long), 100 * long, round(TOKENS_A_SECOND * long)) for long in SECONDS]


def ours(size: ModelOptions, frames: int, world: World, **options: Any) -> Side:
    """An update as the training loop makes it."""
    torch.manual_seed(0)
    model = S2TModel(size.architecture(), VOCABULARY).to(world.device).train()
    task = SpeechTask(model, None, TrainOptions(ctc_weight=0.3 if size.ctc else 0.0, **options), device=world.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batches = [task.example(shape) for shape in shapes(frames)]
    cost = count_flops(task, world)

    def update(number: int) -> float:
        batch = batches[number % len(batches)]
        return update_model(task, model, optimizer, [batch], world, 10.0)["loss"]

    return Side(update, [(_seconds(batch), cost(task.shape(batch))) for batch in batches])


def transformers_speech2text(size: ModelOptions, frames: int, world: World) -> Side:
    """The same weights and the same work in transformers, its loss without smoothing."""
    from transformers import Speech2TextForConditionalGeneration

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        save_speech2text(Path(folder), S2TModel(size.architecture(), VOCABULARY))
        model = Speech2TextForConditionalGeneration.from_pretrained(folder).to(world.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    task = SpeechTask(S2TModel(size.architecture(), VOCABULARY), None, TrainOptions(ctc_weight=0.0))
    batches = [task.example(shape) for shape in shapes(frames)]

    def update(number: int) -> float:
        batch = batches[number % len(batches)]
        optimizer.zero_grad(set_to_none=True)
        features, labels = torch.from_numpy(batch.features).to(world.device), torch.from_numpy(batch.targets)
        with world.autocast():
            loss = model(features.float(), labels=labels.to(world.device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        return loss.item()

    return Side(update, [(_seconds(batch), 0.0) for batch in batches])


def _seconds(batch: Batch) -> float:
    return float(batch.frames.sum()) / 100


def train(device: torch.device) -> None:
    """Hours of audio a GPU-hour, share of the bf16 peak, memory; sides in turn, after as many updates to warm up."""
    world = World(device=device, autocast_to=AUTOCAST_TO["bf16"])
    most = peak(device, "bf16")
    print(f"\n### train step in bf16, {UPDATES} updates; peak {(most or 0) / 1e12:.0f} TFLOP/s\n")
    print("| model | frames a batch | side | audio-h a GPU-hour | ms an update | share of peak | GiB | first loss |")
    print("|---|---|---|---|---|---|---|---|")
    for name, size in SIZES.items():
        alike = size.replace(ctc=False)
        for frames in FRAMES:
            makers = {"ours": partial(ours, size, frames, world)}
            if frames > FRAMES[0]:
                makers["ours, compiled"] = partial(ours, size, frames, world, compile=True)
            if size.encoder == "transformer" and frames < FRAMES[-1]:
                makers["ours, without CTC"] = partial(ours, alike, frames, world)
                makers["transformers Speech2Text"] = partial(transformers_speech2text, alike, frames, world)
            for side, make in makers.items():
                print(f"| {name} | {frames} | {side} | {_measured(make, most)} |", flush=True)


def _measured(make: Callable[[], Side], most: float | None) -> str:
    _empty()
    began = time.perf_counter()
    side = make()
    first = side.update(0)
    for number in range(1, WARM_UP):
        side.update(number)
    torch.cuda.synchronize()
    warm = time.perf_counter() - began
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    for number in range(UPDATES):
        side.update(number)
    torch.cuda.synchronize()
    taken = time.perf_counter() - began
    done = list(islice(cycle(side.work), UPDATES))
    audio, flops = (sum(column) for column in zip(*done, strict=True))
    share = f"{flops / taken / most:.1%}" if most and flops else ""
    memory = torch.cuda.max_memory_allocated() / GIB
    return (
        f"{audio / taken:,.0f} | {1e3 * taken / UPDATES:.1f} | {share} | {memory:.1f} | {first:.3f} (in {warm:.0f} s)"
    )


def decode(device: torch.device) -> None:
    """Seconds of audio a second (RTFx): every utterance of 10 s has 33 tokens, as random weights end nowhere."""
    print("\n### recognition, utterances of 10 s with 33 tokens each, s, transformer, float32\n")
    print("| utterances | beam | CTC weight | RTFx, median of 3 |")
    print("|---|---|---|---|")
    torch.manual_seed(0)
    model = S2TModel(SIZES["s, transformer"].architecture(), VOCABULARY).to(device).eval()
    for utterances in (16, 128):
        features = torch.randn(utterances, 1000, 80, device=device)
        lengths = torch.full((utterances,), 1000, device=device)
        for beam, weight in ((1, 0.0), (5, 0.0), (5, 0.3)):
            options = BeamOptions(beam=beam, ctc_weight=weight, max_tokens_ratio=0, max_tokens=33, min_tokens=33)
            taken = list(_timed(partial(recognise, model, features, lengths, options), 4))[1:]
            print(
                f"| {utterances} | {beam} | {weight} | {10 * utterances / statistics.median(taken):,.0f} |", flush=True
            )


def _timed(work: Callable[[], object], times: int) -> Iterator[float]:
    for _ in range(times):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        yield time.perf_counter() - began


def costs(device: torch.device) -> None:
    """What takes the GPU's time in an update, by kernel, and how much of the time it computes at all."""
    world = World(device=device, autocast_to=AUTOCAST_TO["bf16"])
    for compiled in (False, True):
        for name, size in SIZES.items():
            _empty()
            side = ours(size, 160_000, world, compile=compiled)
            for number in range(WARM_UP):
                side.update(number)
            torch.cuda.synchronize()
            began = time.perf_counter()
            with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
                for number in range(len(SECONDS)):
                    side.update(number)
                torch.cuda.synchronize()
            taken = time.perf_counter() - began
            kernels = sorted(
                (e for e in found.key_averages() if str(e.device_type).endswith("CUDA")),
                key=lambda e: -e.self_device_time_total,
            )
            busy = sum(kernel.self_device_time_total for kernel in kernels) / 1e6
            launches = sum(kernel.count for kernel in kernels) // len(SECONDS)
            print(f"\n### profile: {name}, 160,000 frames a batch, {'compiled' if compiled else 'as written'}\n")
            print(f"busy {busy:.3f} s of {taken:.3f} s with the profiler; {launches} kernels an update\n")
            print("| share of busy | ms an update | calls | kernel |\n|---|---|---|---|")
            for kernel in kernels[:16]:
                spent = kernel.self_device_time_total / 1e6
                each = 1e3 * spent / len(SECONDS)
                print(f"| {spent / busy:.1%} | {each:.2f} | {kernel.count // len(SECONDS)} | `{kernel.key[:110]}` |")


def _empty() -> None:
    torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()


PARTS: Final[dict[str, Callable[[torch.device], None]]] = {"train": train, "decode": decode, "profile": costs}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"no part {', '.join(unknown)}: there are {', '.join(PARTS)}")
    if not torch.cuda.is_available():
        print("error: torch sees no GPU here", file=sys.stderr)
        return 2
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, {time.strftime('%d %B %Y')}")
    for part in arguments.parts or PARTS:
        PARTS[part](device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
