"""Programs against the folded networks they were compiled from, on whole test sets: a queue, one JSON a program.

Usage: BITSPIKE_DATA=DIR python benchmarks/programs/run.py [--only TEXT ...] [--out results/programs] [--list]
           [--work runs/programs] [--threads 1]

Can be stopped at any moment and started again: a job's file appears whole, when the job is finished, and what is done
is skipped. Networks of the committed studies are trained with the study's own recipe and seed 0 into --work, whose
checkpoints make that resumable too. Nothing is chosen: settings are those of the studies and of docs/conversion.md.
"""

from __future__ import annotations

import argparse
import gc
from dataclasses import asdict
from pathlib import Path

import torch
from jobs import RESULTS, jobs, stored
from measure import measure

import bitspike
from bitspike.files import write_json_atomic
from networks import network


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="jobs whose name holds one of these texts")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=Path("runs/programs"), help="runs of the trained networks")
    parser.add_argument("--list", action="store_true", help="print the jobs and stop")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    wanted = [job for job in jobs() if not given.only or any(text in job.name for text in given.only)]
    if not wanted:
        parser.error(f"no job's name holds any of {given.only}; --list without --only prints all")
    if given.list:
        print("\n".join(f"{'done' if stored(given.out, job) else 'open'}  {job.name}" for job in wanted))
        return
    torch.set_num_threads(given.threads)
    bitspike.keep_memory()
    given.out.mkdir(parents=True, exist_ok=True)
    for job in wanted:
        if stored(given.out, job):
            continue
        made = network(job.network, given.work)
        result = {"key": job.key, "job": asdict(job), "network": made.info, **measure(job, made)}
        write_json_atomic(given.out / f"{job.name}.json", result)
        found = result.get("accuracy")
        said, size = "", result["size"]
        if found:
            said = f"folded {found['folded']:.2%}, program {found['program']:.2%}, same {found['agreement']:.2%}, "
        print(f"{job.name}: {said}{size['file_bytes']:,} bytes, {size['float32_bytes']:,} as float32", flush=True)
        gc.collect()  # traced graphs hold their modules in cycles


if __name__ == "__main__":
    main()
