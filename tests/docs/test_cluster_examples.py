"""The examples for clusters, which cannot be tried here: shell by shellcheck, fields of Kubernetes by hand."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
SLURM, KUBERNETES = EXAMPLES / "slurm.sh", EXAMPLES / "kubernetes.yaml"

# Of the fields that the example could have, from the API's reference (batch/v1 Job, v1 Service, PodSpec, Container).
JOB = {"completionMode", "completions", "parallelism", "backoffLimit", "template"}
POD = {"subdomain", "restartPolicy", "containers", "volumes"}
CONTAINER = {"name", "image", "command", "args", "env", "resources", "volumeMounts"}
SERVICE = {"clusterIP", "publishNotReadyAddresses", "selector"}


@pytest.fixture(scope="module")
def documents():
    service, job = yaml.safe_load_all(KUBERNETES.read_text())
    return service, job


def script(documents) -> str:
    (container,) = documents[1]["spec"]["template"]["spec"]["containers"]
    return container["args"][0]


def lint(text: str) -> str:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    return subprocess.run(
        ["shellcheck", "-s", "bash", "-"], input=text, capture_output=True, text=True
    ).stdout


def test_shell(documents):
    assert lint(SLURM.read_text()) == ""
    assert lint(script(documents)) == ""


def test_the_shell_within_srun_is_whole():
    inner = re.search(r"bash -c '\n(.*?)\n'\n", SLURM.read_text(), re.DOTALL).group(1)
    exported = re.search(r"^export (.*)$", SLURM.read_text(), re.MULTILINE).group(1).split()
    names = set(re.findall(r"\$(\w+)", inner))
    assert names == {*exported, "SLURM_NNODES", "SLURM_NODEID", "SLURM_JOB_ID"}
    assert lint(f'#!/bin/bash\n: "${{{"}${".join(names)}}}"\n{inner}\n') == ""


def test_fields_of_kubernetes(documents):
    service, job = documents
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for found, known in ((service["spec"], SERVICE), (job["spec"], JOB), (pod, POD), (container, CONTAINER)):
        assert set(found) == known
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    assert pod["restartPolicy"] in ("Never", "OnFailure")  # a Job takes no other
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {
        "job-name": job["metadata"]["name"]
    }  # which the Job's controller sets
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    assert all(isinstance(one.get("value", ""), str) for one in container["env"])


def test_the_launcher_gets_what_the_job_says(documents):
    service, job = documents
    text = script(documents)
    assert f"{job['metadata']['name']}-0.{service['metadata']['name']}" in text
    assert f"--nnodes {job['spec']['completions']} " in text
    assert '--rank "$JOB_COMPLETION_INDEX"' in text


@pytest.mark.parametrize("file", [SLURM, KUBERNETES], ids=lambda file: file.name)
def test_arguments_of_the_launcher_exist(file):
    from paddle.distributed.launch.context.args_envs import parse_args  # noqa: F401

    source = Path(parse_args.__code__.co_filename).read_text()
    launched = re.search(
        r"paddle\.distributed\.launch(.*?)picoquant", file.read_text(), re.DOTALL | re.IGNORECASE
    )
    used = re.findall(r"--(\w+)", launched.group(1))
    assert {"master", "nnodes", "rank", "nproc_per_node"} <= set(used)
    assert all(f'"--{name}"' in source for name in used)
    assert "Not tried" in file.read_text()
