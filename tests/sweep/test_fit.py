"""How many trials fit, by node; what does not fit is refused with the arithmetic."""

import pytest

from xlst_ray.errors import ConfigError
from xlst_ray.sweep.fit import Need, Node, choose_concurrency, trials_at_a_time

TWO = [Node({"CPU": 2.0, "memory": 1e9})]
GPUS = [Node({"CPU": 8.0, "GPU": 4.0}), Node({"CPU": 8.0, "GPU": 4.0}), Node({"CPU": 64.0}, {"role": "data"})]


def train(workers: int, cpus: float, gpus: float = 0.0) -> Need:
    return Need("workers x (worker_cpus + loader_cpus)", workers, {"CPU": cpus, "GPU": gpus})


@pytest.mark.parametrize(
    ("needs", "nodes", "fit"),
    [
        ([train(1, 1.0)], TWO, 2),
        ([train(2, 1.0)], TWO, 1),
        ([train(1, 0.75 + 0.25), train(2, 1.0)], TWO, 1),  # the larger of two needs decides
        ([train(1, 0.1)], [Node({"CPU": 0.3})], 3),  # 0.3 / 0.1 is 2.9999999999999996
        ([train(4, 1.0, 1.0)], GPUS, 2),
        ([train(1, 5.0)], [Node({"CPU": 3.0}), Node({"CPU": 3.0})], 0),  # a process is not split over nodes
        ([train(3, 2.0)], [Node({"CPU": 3.0}), Node({"CPU": 3.0})], 0),
        ([train(1, 1.0, 1.0)], [], 0),
    ],
)
def test_trials_are_counted_by_node(needs: list[Need], nodes: list[Node], fit: int) -> None:
    assert trials_at_a_time(needs, nodes) == fit


def test_only_nodes_with_the_labels_count() -> None:
    decoders = Need("decoders x decoder_cpus", 1, {"CPU": 16.0}, {"role": "data"})
    assert trials_at_a_time([decoders], GPUS) == 4
    assert trials_at_a_time([decoders, train(4, 1.0, 1.0)], GPUS) == 2
    with pytest.raises(ConfigError, match=r"64 CPUs \(role=data\): 0 trials fit"):
        choose_concurrency([Need("x", 1, {"CPU": 65.0}, {"role": "data"})], GPUS, None, 1, grows=False)


def test_as_many_run_as_fit_and_there_are() -> None:
    assert choose_concurrency([train(1, 1.0, 1.0)], GPUS, None, 20, grows=False) == 8
    assert choose_concurrency([train(1, 1.0, 1.0)], GPUS, None, 3, grows=False) == 3
    assert choose_concurrency([train(1, 1.0, 1.0)], GPUS, 5, 20, grows=False) == 5


def test_what_does_not_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_concurrency([train(3, 1.0)], TWO, None, 20, grows=False)
    assert "1 trials at a time need 1 x 3 processes of 1 CPUs (workers x (worker_cpus + loader_cpus))" in str(
        caught.value
    )
    assert "but the nodes have 2 CPUs" in str(caught.value)
    with pytest.raises(ConfigError, match=r"3 trials at a time need 3 x 1 processes of 1 CPUs .* 2 trials fit"):
        choose_concurrency([train(1, 1.0)], TWO, 3, 20, grows=False)


def test_a_cluster_that_grows_is_taken_at_the_users_word() -> None:
    assert choose_concurrency([train(3, 1.0)], TWO, 4, 20, grows=True) == 4
    with pytest.raises(ConfigError, match=r"search\.concurrent where the cluster grows"):
        choose_concurrency([train(3, 1.0)], TWO, None, 20, grows=True)
