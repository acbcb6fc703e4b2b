"""Jobs of a queue on the machines of a Ray cluster."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bitspike.checks import bad_value, message
from bitspike.files import write_bytes_atomic
from bitspike.training.job import digest, load_data
from bitspike.training.recipe import Recipe
from bitspike.training.study import Job, Outcome, Study, look, plan, run_queued

RETRIES = 20
"""Attempts of a job whose worker or machine is lost; each goes on from the last checkpoint."""

_PASSED = ("BITSPIKE_DATA", "PYTHONPATH")  # of the environment, to the workers
_WAIT_S = 10.0


def run_on_ray(
    study: Study,
    address: str,
    train: Callable[[Study, Recipe], dict[str, object]],
    shard: tuple[int, int],
    say: Callable[[str], None],
    gpus: float = 0.0,
) -> Outcome:
    """Run what is not done of a queue, as many jobs at once as the cluster has room for.

    A job asks for as many CPUs as `train.threads` says, or one. It writes its checkpoints and its result into the
    folder of the study, which all machines must see; where its worker dies it goes on elsewhere from its last
    checkpoint.

    Args:
        study: what to run; recipes, data and the folder of results must be at the same paths on every machine.
        address: of the cluster, such as "host:6379"; "auto": the one that runs on this machine, or a local one of all
            its cores. train: trains one job; runs on the workers. shard: (i, n), as for `run_study`.
        say: takes lines of progress. gpus: GPUs of a job, shares count.

    Returns:
        As `run_study`. Interrupted, the running jobs are stopped and leave their checkpoints.

    Raises:
        ValueError: no cluster there, or a machine that does not see the folder of results.
        Exception: what a job raised; finished jobs are kept.
    """
    ray = _ray()
    study = replace(study, out=study.out.resolve())
    jobs = [(place, job) for place, job in enumerate(plan(study), 1) if (place - 1) % shard[1] == shard[0]]
    study.out.mkdir(parents=True, exist_ok=True)
    token = study.out / f".ray-{uuid.uuid4().hex}"
    left, skipped = [], []
    for place, job in jobs:
        if look(job, digest(job.recipe, load_data(job.recipe)))[0] == "done":
            skipped.append(job.path)
        else:
            left.append((place, job))
    total = len(plan(study))
    if not left:
        return Outcome((), tuple(skipped), total - len(skipped), False, {})
    begun = _connect(ray, address)
    write_bytes_atomic(token, b"bitspike study\n")
    written: list[Path] = []
    diverged: dict[Path, str] = {}
    running: dict[Any, tuple[int, Job]] = {}
    try:
        for place, job in left:
            options = {"num_cpus": job.recipe.train.threads or 1, "num_gpus": gpus, "max_retries": RETRIES}
            task = ray.remote(**options)(_work)
            running[task.remote(study, job, train, token)] = place, job
        say(f"{len(running)} jobs handed to Ray, {len(skipped)} done before")
        while running:
            ended, _ = ray.wait(list(running), num_returns=1)
            place, job = running.pop(ended[0])
            machine, finding = ray.get(ended[0])
            if finding is not None:
                diverged[job.path] = finding
            else:
                written.append(job.path)
            state = "FAILED" if finding else "done"
            say(f"[{place}/{total}] {job.arm} seed {job.seed}: {state} on {machine}, {len(running)} left")
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for task in running:
            ray.cancel(task, force=True)
        token.unlink(missing_ok=True)
        if begun:
            ray.shutdown()
    done = len(written) + len(skipped)
    return Outcome(tuple(written), tuple(skipped), total - done, interrupted, diverged)


def _work(
    study: Study, job: Job, train: Callable[[Study, Recipe], dict[str, object]], token: Path
) -> tuple[str, str | None]:
    """On a worker: one job; (machine, what made it diverge or None)."""
    machine = os.uname().nodename
    if not token.exists():
        must = f"every machine of the cluster must see {token.parent}"
        raise bad_value("--ray", must, f"{machine}, which does not", "give --out on storage that all machines share")
    data = digest(job.recipe, load_data(job.recipe))
    if look(job, data)[0] == "done":  # an earlier attempt wrote it and was lost before it could say so
        return machine, None
    return machine, run_queued(job, lambda recipe: train(study, recipe), data)


def _connect(ray: Any, address: str) -> bool:
    """Whether this call has joined or begun a cluster, so that it leaves it again."""
    if ray.is_initialized():
        return False
    if address != "auto":
        _check_address(address)
    try:
        ray.init(
            address=None if address == "auto" and not os.environ.get("RAY_ADDRESS") else address,
            log_to_driver=False,
            include_dashboard=False,
            runtime_env={"env_vars": {name: os.environ[name] for name in _PASSED if name in os.environ}},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, str(error).splitlines()[0]) from error
    return True


def _check_address(address: str) -> None:
    """Raise unless something listens there: Ray itself waits for minutes, then ends the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 2**16):
        raise bad_value("--ray", "it must be auto or HOST:PORT", repr(address), "e.g. --ray 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_WAIT_S).close()
    except OSError as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, why: str) -> ValueError:
    must = "a Ray cluster must answer at the address"
    todo = "start one with `ray start --head`, or give --ray auto for this machine"
    return bad_value("--ray", must, f"{address!r}: {why}", todo)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError(message("--ray", "ray must be installed", "none", 'pip install "bitspike[ray]"')) from error
    return ray
