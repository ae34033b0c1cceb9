"""The transfer plan: what it says, what it loads, and that the two are the same."""

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from xlst_ray.errors import TransferError
from xlst_ray.model.s2t import VOCABULARY_ROWS, S2TModel
from xlst_ray.model.transfer import TransferOptions, plan_transfer

Build = Callable[..., S2TModel]


def pieces(count: int) -> list[str]:
    return ["<s>", "<pad>", "</s>", "<unk>", *(f"▁{number}" for number in range(count - 4))]


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_over_the_same_vocabulary_the_whole_model_is_taken_over(build: Build) -> None:
    source, target = build(seed=1), build(seed=2)
    plan = plan_transfer(source.state_dict(), pieces(23), target, pieces(23), TransferOptions())
    before = copied(target)
    assert not torch.equal(before["ctc.weight"], source.state_dict()["ctc.weight"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items()), "planning loads"
    plan.apply(target)
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in source.state_dict().items())
    assert (plan.share, plan.unused) == (1.0, ())
    assert {(entry.action, entry.frozen_until) for entry in plan.entries} == {("loaded", 0)}


tokens = st.lists(st.sampled_from([f"t{number}" for number in range(12)]), min_size=2, max_size=12, unique=True)


@given(tokens, tokens)
def test_rows_move_by_token_and_all_others_stay(source_pieces: list[str], target_pieces: list[str]) -> None:
    def vocabulary_model(size: int, sign: int) -> nn.Module:
        model = nn.Module()
        model.decoder = nn.Module()
        model.decoder.embed_tokens = nn.Embedding(size, 2)
        model.ctc = nn.Linear(2, size)
        with torch.no_grad():
            for number, parameter in enumerate(model.parameters(), start=1):
                parameter.copy_(sign * number * torch.arange(1, parameter.numel() + 1).view_as(parameter))
        return model

    source, target = vocabulary_model(len(source_pieces), 1), vocabulary_model(len(target_pieces), -1)
    plan = plan_transfer(source.state_dict(), source_pieces, target, target_pieces, TransferOptions(min_share=0))
    before = copied(target)
    plan.apply(target)
    for name in VOCABULARY_ROWS:
        here, there = target.state_dict()[name], source.state_dict()[name]
        for row, piece in enumerate(target_pieces):
            expected = there[source_pieces.index(piece)] if piece in source_pieces else before[name][row]
            assert torch.equal(here[row], expected)
    common = len(set(source_pieces) & set(target_pieces))
    assert plan.share == pytest.approx(common / len(target_pieces))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (TransferOptions(modules="encoder"), r"^encoder\."),
        (TransferOptions(modules="decoder"), r"^decoder\."),
        (TransferOptions(include=("*.fc1.*",)), r"\.fc1\."),
        (TransferOptions(modules="encoder", exclude=("encoder.conv.*", "*norm*")), r"^encoder\.(?!conv)(?!.*norm)"),
        (TransferOptions(exclude=("ctc.*",)), r"^(?!ctc)"),
    ],
)
def test_what_is_asked_for_is_loaded_and_nothing_else(build: Build, options: TransferOptions, expected: str) -> None:
    source, target = build(seed=1), build(seed=2)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)  # so that norms and zero biases differ too
    before = copied(target)
    plan = plan_transfer(source.state_dict(), pieces(23), target, pieces(23), options)
    plan.apply(target)
    for name, tensor in target.state_dict().items():
        wanted = re.search(expected, name) is not None
        assert torch.equal(tensor, (source.state_dict() if wanted else before)[name]), name
    assert {entry.name for entry in plan.entries if entry.wanted} == {n for n in before if re.search(expected, n)}
    assert plan.share == 1.0


def test_a_transformers_checkpoint_is_taken_over_by_a_new_name(
    model: S2TModel, build: Build, foreign: Callable[[S2TModel], nn.Module]
) -> None:
    theirs = foreign(model).state_dict()
    target = build(seed=2).double()
    options = TransferOptions(rename={"model.": ""}, exclude=("ctc.*",))
    plan = plan_transfer(theirs, pieces(23), target, pieces(23), options)
    plan.apply(target)
    assert torch.equal(target.decoder.embed_tokens.weight, model.decoder.embed_tokens.weight)
    assert plan.unused == ("lm_head.weight",)
    assert "loaded, renamed from model\n" in re.sub(" +[0-9,]+ +100.0%", "", plan.table())


def test_of_two_prefixes_the_longer_one_gives_the_new_name(build: Build) -> None:
    model, target = build(seed=1), build(seed=2)
    source = {f"old.{name}".replace("old.encoder.", "old.enc."): tensor for name, tensor in model.state_dict().items()}
    options = TransferOptions(rename={"old.": "", "old.enc.": "encoder."})
    plan_transfer(source, pieces(23), target, pieces(23), options).apply(target)
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_the_table_says_what_was_loaded(build: Build) -> None:
    source, target = build(vocabulary=20, encoder_layers=3, seed=1), build(vocabulary=23, encoder_layers=4, seed=2)
    options = TransferOptions(min_share=0, exclude=("decoder.layers.1.*",), freeze={"encoder.*": 1000})
    plan = plan_transfer(source.state_dict(), pieces(20), target, pieces(23), options)
    sizes = {entry.name: entry.size for entry in plan.entries}

    def size(*prefixes: str) -> int:
        return sum(count for name, count in sizes.items() if name.startswith(prefixes))

    rows = [tuple(re.split(" {2,}", line)) for line in plan.table().splitlines() if not line.startswith("-")]
    layers = size("encoder.layers.0.", "encoder.layers.1.", "encoder.layers.2.")
    by_token = "rows 20 of 23 by token"
    assert rows == [
        ("module", "action", "parameters", "loaded", "frozen until"),
        ("encoder.conv", "loaded", f"{size('encoder.conv'):,}", "100.0%", "update 1,000"),
        ("encoder.layers.0-2", "loaded", f"{layers:,}", "100.0%", "update 1,000"),
        ("encoder.layers.3", "reset: not in the source", f"{layers // 3:,}", "0.0%", "update 1,000"),
        ("encoder.layer_norm", "loaded", "64", "100.0%", "update 1,000"),
        ("decoder.embed_tokens", by_token, f"{23 * 32}", f"{20 / 23:.1%}"),
        ("decoder.layers.0", "loaded", f"{size('decoder.layers.0'):,}", "100.0%"),
        ("decoder.layers.1", "reset: not asked for", f"{size('decoder.layers.1'):,}", "0.0%"),
        ("decoder.layer_norm", "loaded", "64", "100.0%"),
        ("ctc", by_token, f"{23 * 33}", f"{20 / 23:.1%}"),
        ("total", f"{plan.share:.1%} of what was asked for", f"{size(''):,}", rows[-2][3]),
        ("not used of the source: decoder.layers.1",),
    ]
    before = copied(target)
    plan.apply(target)
    changed = sum(int((tensor != before[name]).sum()) for name, tensor in target.state_dict().items())
    equal_by_chance = sum(  # norms and zero biases, which are initialised alike
        int((tensor == before[name]).sum())
        for name, tensor in target.state_dict().items()
        if next(entry for entry in plan.entries if entry.name == name).source is not None
    )
    loaded = sum(entry.loaded for entry in plan.entries)
    not_loaded_rows = sum(entry.size - entry.loaded for entry in plan.entries if entry.action == "rows")
    assert changed + equal_by_chance - not_loaded_rows == loaded
    assert rows[-2][3] == f"{loaded / size(''):.1%}"


def test_freezing_ends_where_it_is_said_to_and_the_latest_pattern_wins(build: Build) -> None:
    options = TransferOptions(freeze={"encoder.*": 100, "encoder.layers.0.*": 300, "*.embed_tokens.weight": 200})
    model = build()
    plan = plan_transfer(model.state_dict(), pieces(23), model, pieces(23), options)
    until = {entry.name: entry.frozen_until for entry in plan.entries}
    for name, _ in model.named_parameters():
        if name.startswith("encoder."):
            assert until[name] == (300 if name.startswith("encoder.layers.0.") else 100)
        else:
            assert until[name] == (200 if name == "decoder.embed_tokens.weight" else 0)


def test_less_than_the_share_asked_for_is_refused_with_the_table(build: Build) -> None:
    source, target = build(dim=16), build()
    with pytest.raises(TransferError, match=r"only 5\.4% of the parameters") as raised:
        plan_transfer(source.state_dict(), pieces(23), target, pieces(23), TransferOptions())
    assert "reset: another shape (23x16 in the source, 23x32 here)" in str(raised.value)
    assert "min_share" in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TransferOptions(include=("encodr.*",)), r"include: .*'encodr\.\*'.*\n.*nearest: encoder\.\*"),
        (TransferOptions(exclude=("ctc.wait",)), r"exclude: .*\n.*ctc\.weight"),
        (TransferOptions(freeze={"encoder.layer.*": 9}), r"freeze: .*\n.*encoder\.layers\.\*"),
        (TransferOptions(rename={"modell.": ""}), r"rename: .*'modell\.'"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_near_names(
    build: Build, options: TransferOptions, message: str
) -> None:
    model = build()
    with pytest.raises(TransferError, match=message):
        plan_transfer(model.state_dict(), pieces(23), model, pieces(23), options)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_vocabulary_of_another_model_is_refused(build: Build, side: str) -> None:
    model = build()
    given = {"source": pieces(23), "target": pieces(23), side: pieces(24)}
    with pytest.raises(TransferError, match=f"23 rows, but the {side} vocabulary has 24"):
        plan_transfer(model.state_dict(), given["source"], model, given["target"], TransferOptions())


def test_a_plan_is_not_applied_to_another_model(build: Build) -> None:
    model = build()
    plan = plan_transfer(model.state_dict(), pieces(23), model, pieces(23), TransferOptions())
    with pytest.raises(TransferError, match="another model"):
        plan.apply(build(decoder_layers=1))


def test_parameters_in_one_memory_that_are_loaded_differently_are_found_out() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.other.weight = self.one.weight

    source = {"one.weight": torch.ones(2, 2), "other.weight": torch.zeros(2, 2)}
    target = Tied()
    plan = plan_transfer(source, [], target, [], TransferOptions())
    with pytest.raises(TransferError, match=r"one\.weight: does not hold"):
        plan.apply(target)
