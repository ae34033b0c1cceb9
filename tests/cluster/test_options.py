"""What decides how an update is made is told apart from how many processes make it."""

import pytest
from pydantic import ValidationError

from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.tune import trial_cluster


def test_ranks_are_the_workers_unless_fewer_do_their_work() -> None:
    assert [ClusterOptions(workers=workers).planned_ranks for workers in (0, 1, 3)] == [1, 1, 3]
    assert ClusterOptions(workers=4, ranks=8).planned_ranks == 8
    with pytest.raises(ValidationError, match=r"ranks \(2\) leave nothing to do for some of 4 workers"):
        ClusterOptions(workers=4, ranks=2)
    with pytest.raises(ValidationError, match=r"min_workers \(3\) is above workers \(2\)"):
        ClusterOptions(workers=2, min_workers=3)


def test_a_trial_in_one_process_trains_what_the_workers_would() -> None:
    cluster = ClusterOptions(workers=4, min_workers=2, decoders=3)
    alone = trial_cluster(cluster, in_process=True)
    assert (alone.workers, alone.decoders, alone.planned_ranks) == (0, 0, 4)
    assert trial_cluster(cluster, in_process=False) == cluster


def test_keys_have_no_place_in_an_address() -> None:
    assert ClusterOptions(mlflow="http://tracking.example:5000").mlflow == "http://tracking.example:5000"
    with pytest.raises(ValidationError, match="mlflow is an address without name and password"):
        ClusterOptions(mlflow="https://me:s3cret@tracking.example")
