"""cluster.yaml and deploy/: valid by Ray's own check, of one shape, and what the jobs ask for is what they have."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from ray.autoscaler._private.util import prepare_config, validate_config

from xlst_ray.cluster.options import ROLE_LABEL, ClusterOptions, Role
from xlst_ray.config import load
from xlst_ray.recipe.options import Experiment

ROOT = Path(__file__).parents[2]
ROLES: tuple[Role, ...] = get_args(Role)


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return found


def containers(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]


LAUNCHER = read("cluster.yaml")
RAYCLUSTER, RAYJOB = read("deploy/raycluster.yaml"), read("deploy/rayjob.yaml")
GROUPS = {group["groupName"]: group for group in RAYCLUSTER["spec"]["workerGroupSpecs"]}


def test_the_launcher_takes_the_file() -> None:
    prepared = prepare_config(read("cluster.yaml"))
    validate_config(prepared)
    assert {name: node["max_workers"] for name, node in prepared["available_node_types"].items() if name != "head"} == {
        "data": 8,
        "engine": 4,
        "train": 4,
    }


@pytest.mark.parametrize("change", [{"max_worker": 3}, {"head_node_type": "heat"}, {"max_workers": -1}])
def test_the_launcher_refuses_what_is_wrong(change: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"."):  # Ray raises several kinds
        validate_config(prepare_config({**read("cluster.yaml"), **change}))


def test_what_jobs_ask_for_is_what_nodes_have() -> None:
    asked = ClusterOptions(by_role=True)
    types = LAUNCHER["available_node_types"]
    for role in ROLES:
        assert asked.nodes(role) == types[role]["labels"] == GROUPS[role]["labels"] == {ROLE_LABEL: role}
    assert set(types) == {"head", *ROLES}
    assert set(GROUPS) == set(ROLES)
    assert ClusterOptions().nodes("data") == {}


def test_the_head_has_no_work_and_no_data() -> None:
    assert LAUNCHER["available_node_types"]["head"]["resources"]["CPU"] == 0
    head = RAYCLUSTER["spec"]["headGroupSpec"]["rayStartParams"]
    assert head["num-cpus"] == "0"
    (start,) = [line for line in LAUNCHER["head_start_ray_commands"] if "ray start" in line]
    assert f"--object-store-memory={head['object-store-memory']}" in start


def test_every_node_wants_the_token() -> None:
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert [line for line in LAUNCHER[name] if "ray start" in line and "RAY_AUTH_MODE=token" in line]
    assert "/home/ray/.ray/auth_token" in LAUNCHER["file_mounts"]
    assert RAYCLUSTER["spec"]["authOptions"]["mode"] == "token"


def test_only_engines_are_on_machines_that_may_be_taken_away() -> None:
    types = LAUNCHER["available_node_types"]
    spot = {name for name, node in types.items() if "InstanceMarketOptions" in node["node_config"]}
    assert spot == {"engine"}
    kinds = {
        role: GROUPS[role]["template"]["spec"].get("nodeSelector", {}).get("karpenter.sh/capacity-type")
        for role in ROLES
    }
    assert kinds == {"data": None, "engine": "spot", "train": "on-demand"}


def test_all_nodes_have_one_image_and_one_ray() -> None:
    images = {container["image"] for container in containers(RAYCLUSTER["spec"])} | {LAUNCHER["docker"]["image"]}
    assert len(images) == 1
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    (ray,) = re.findall(r"^ARG RAY=(.+)$", dockerfile, re.MULTILINE)
    assert RAYCLUSTER["spec"]["rayVersion"] == ray
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (wanted,) = [text.partition("]")[2] for text in project["dependencies"] if text.startswith("ray[")]
    assert ray in SpecifierSet(wanted)
    (tag,) = {image.rpartition(":")[2] for image in images}
    assert tag == project["version"]


def test_requests_are_limits() -> None:
    for container in containers(RAYCLUSTER["spec"]):
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_a_job_has_the_cluster_of_the_other_file() -> None:
    assert RAYJOB["spec"]["rayClusterSpec"] == RAYCLUSTER["spec"]


def test_the_command_of_the_job_is_one_that_the_recipe_takes_and_the_cluster_can_serve() -> None:
    python, script, config, file, *overrides = shlex.split(RAYJOB["spec"]["entrypoint"])
    assert (python, config) == ("python", "--config")
    assert (ROOT / script).is_file()
    assert str(Path(file).parent) in {
        mount["mountPath"] for mount in containers(RAYCLUSTER["spec"])[0]["volumeMounts"]
    }, "the driver reads it on the head"
    cluster = load(Experiment, ROOT / "jobs" / "configs" / "demo.yaml", overrides).cluster

    def most(role: Role, resource: str) -> float:
        group = GROUPS[role]
        return group["maxReplicas"] * float(
            group["template"]["spec"]["containers"][0]["resources"]["limits"].get(resource, 0)
        )

    gpu = "nvidia.com/gpu"
    assert cluster.by_role
    assert 0 < cluster.workers * cluster.worker_gpus <= most("train", gpu)
    assert cluster.workers * cluster.worker_cpus <= most("train", "cpu")
    assert cluster.workers * cluster.loader_cpus <= most("data", "cpu")
    assert 0 < cluster.translators * cluster.translator_gpus <= most("engine", gpu)
    assert 0 < cluster.decoders * cluster.decoder_gpus <= most("engine", gpu)


def test_a_job_that_lost_its_cluster_is_submitted_again_and_may_write_a_checkpoint_when_stopped() -> None:
    assert RAYJOB["spec"]["backoffLimit"] > 0
    variables = yaml.safe_load(RAYJOB["spec"]["runtimeEnvYAML"])["env_vars"]
    assert int(variables["RAY_JOB_STOP_WAIT_TIME_S"]) >= 60


def test_the_slurm_script_is_a_shell_script() -> None:
    assert subprocess.run(["bash", "-n", str(ROOT / "deploy" / "slurm.sh")], check=False).returncode == 0
