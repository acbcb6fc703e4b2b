"""Runs the rows of a plan: prepares cases where they live, picks the fastest candidate, takes the pairs."""

from __future__ import annotations

import math
import statistics
import time
from functools import partial
from typing import Any

from measure import PAUSE_S, alternate, as_sample, summary
from plans.base import Case, Plan, Row
from process import Places, Worker, WorkerError

ROUNDS = 5  # of the contest between candidates
MEMORY_STEPS = 3
PREPARE_S, RUN_S = 400.0, 240.0
Result = dict[str, Any]


class NotMeasuredError(Exception):
    """The status of a row that has no figures."""


class Bench:
    """All workers alive at once; one works at a time.

    Args:
        places: interpreters. pairs: wanted per row. quick: two rounds, short samples.
        keep_disturbed: disturbed samples count.
    """

    def __init__(self, places: Places, pairs: int, quick: bool, keep_disturbed: bool) -> None:
        self.places, self.pairs, self.quick, self.keep_disturbed = places, pairs, quick, keep_disturbed
        self.versions: dict[str, Any] = {}
        self._workers: dict[str, Worker] = {}
        self._prepared: dict[str, Result] = {}
        self._fastest: dict[tuple[str, ...], tuple[Case, list[Result]]] = {}

    def row(self, row: Row, plan: Plan) -> Result:
        """Measure one row; whatever goes wrong becomes its status."""
        result = _head(row)
        try:
            ours = self._prepare(row.ours, plan)
            result["ours"] |= {"facts": ours["facts"]}
            chosen, contest = self._choose(row.others, plan)
            other = self._prepare(chosen, plan)
            result["other"] = _named(chosen) | {"facts": other["facts"]}
            _same_size(ours["facts"], other["facts"])
            if contest:
                result["candidates"] = contest
            found = alternate(
                partial(self._sample, row.ours, plan),
                partial(self._sample, chosen, plan),
                self.pairs,
                keep_disturbed=self.keep_disturbed,
            )
        except NotMeasuredError as reason:
            return result | {"status": str(reason)}
        if len(found.kept) < self.pairs:
            result["status"] = f"too disturbed: {len(found.kept)} of {self.pairs} pairs"
            return result | {"dropped_pairs": found.dropped}
        result |= {"status": "measured", **summary(found, row.ratio_is_slower)}
        return result | judged(row, result["ratio"], result["ratio_low"], result["ratio_high"])

    def memory(self, row: Row) -> Result:
        """Peak memory of both cases of a row, each in a process of its own; the candidate that needs least counts."""
        result = _head(row)
        try:
            ours = self._memory(row.ours)
            found = [(case, self._memory(case)) for case in row.others]
            _same_size(ours["facts"], found[0][1]["facts"])
        except NotMeasuredError as reason:
            return result | {"status": str(reason)}
        chosen, other = min(found, key=lambda pair: pair[1]["peak_increase_mib"])
        if len(found) > 1:
            result["candidates"] = [
                {"spec": c.spec, "peak_mib": m["peak_increase_mib"], "saved_mib": m["saved_mib"]} for c, m in found
            ]
        result["ours"] |= ours
        result["other"] = _named(chosen) | other
        ratio = round(ours["peak_increase_mib"] / max(other["peak_increase_mib"], 0.1), 3)
        result |= {"status": "measured", "ratio": ratio}
        held = ours["saved_mib"], other["saved_mib"]
        result["saved_ratio"] = None if None in held else round(held[0] / max(held[1], 0.1), 3)
        return result | judged(row, ratio, ratio, ratio)

    def drop(self) -> None:
        """Forget all cases, at the end of a stage."""
        self._prepared.clear()
        self._fastest.clear()
        for name in list(self._workers):
            self._ask(name, {"do": "drop"}, 60)

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def start(self, name: str) -> Worker:
        """The worker of that name, started if it is not running.

        Raises:
            NotMeasuredError: it cannot run here.
        """
        if name not in self._workers:
            try:
                self._workers[name] = Worker(name, self.places)
            except WorkerError as error:
                raise NotMeasuredError(f"not run: {error}") from None
            self.versions[name] = self._workers[name].facts
        return self._workers[name]

    def _ask(self, name: str, order: Result, timeout_s: float) -> Result:
        worker = self.start(name)
        try:
            answer = worker.ask(order, timeout_s)
        except WorkerError as error:
            worker.close()
            del self._workers[name]
            self._prepared = {k: v for k, v in self._prepared.items() if not k.startswith(name + " ")}
            raise NotMeasuredError(f"failed: {error}") from None
        if "unavailable" in answer:
            raise NotMeasuredError(f"not available: {answer['unavailable']}")
        if "error" in answer:
            raise NotMeasuredError(f"failed: {answer['error']}")
        return answer

    def _prepare(self, case: Case, plan: Plan) -> Result:
        if case.key in self._prepared and "reason" in self._prepared[case.key]:
            raise NotMeasuredError(self._prepared[case.key]["reason"])
        if case.key not in self._prepared:
            order = {"do": "prepare", "id": case.key, "spec": case.spec, "warm_s": 0.05 if self.quick else plan.warm_s}
            try:
                answer = self._ask(case.worker, order, PREPARE_S)
            except NotMeasuredError as reason:
                self._prepared[case.key] = {"reason": str(reason)}
                raise
            sample_s = 0.02 if self.quick else plan.sample_s
            answer["n"] = max(1, math.ceil(sample_s * 1e3 / answer["estimate_ms"]))
            answer["facts"] |= {"first_call_s": answer["first_s"], "calls_per_sample": answer["n"]}
            self._prepared[case.key] = answer
        return self._prepared[case.key]

    def _sample(self, case: Case, plan: Plan) -> Any:
        n = self._prepare(case, plan)["n"]
        return as_sample(self._ask(case.worker, {"do": "run", "id": case.key, "n": n}, RUN_S))

    def _choose(self, cases: tuple[Case, ...], plan: Plan) -> tuple[Case, list[Result]]:
        """The candidate with the least median over a few alternating rounds; the others are dropped."""
        if len(cases) == 1:
            return cases[0], []
        key = tuple(case.key for case in cases)
        if key not in self._fastest:
            able, unable = [], []
            for case in cases:
                try:
                    self._prepare(case, plan)
                    able.append(case)
                except NotMeasuredError as reason:
                    unable.append({"spec": case.spec, "status": str(reason)})
            if not able:
                raise NotMeasuredError(unable[0]["status"])
            taken: dict[str, list[float]] = {case.key: [] for case in able}
            for _ in range(2 if self.quick else ROUNDS):
                for case in able:
                    time.sleep(PAUSE_S)
                    taken[case.key].append(self._sample(case, plan).ms)
            medians = {key: statistics.median(times) for key, times in taken.items()}
            best = min(able, key=lambda case: medians[case.key])
            for case in able:
                if case is not best:
                    self._ask(case.worker, {"do": "drop", "ids": [case.key]}, 60)
                    del self._prepared[case.key]
            contest = [{"spec": case.spec, "ms": float(f"{medians[case.key]:.5g}")} for case in able]
            self._fastest[key] = best, contest + unable
        return self._fastest[key]

    def _memory(self, case: Case) -> Result:
        if case.key not in self._prepared:
            self.close()
            order = {"do": "memory", "spec": case.spec, "steps": MEMORY_STEPS}
            try:
                self._prepared[case.key] = self._ask(case.worker, order, PREPARE_S)
            except NotMeasuredError as reason:
                self._prepared[case.key] = {"reason": str(reason)}
            self.close()
        if "reason" in self._prepared[case.key]:
            raise NotMeasuredError(self._prepared[case.key]["reason"])
        return self._prepared[case.key]


def _named(case: Case) -> Result:
    return {"worker": case.worker, "label": case.label, "spec": case.spec}


def _head(row: Row) -> Result:
    return {
        "stage": row.stage,
        "class": row.kind,
        "ours": _named(row.ours),
        "other": _named(row.others[0]),
        "ratio_is": "ours/other" if row.ratio_is_slower else "other/ours",
        "goal": {"text": row.goal.text, "bound": row.goal.bound} if row.goal else None,
    }


def _same_size(ours: Result, other: Result) -> None:
    """Networks are compared only with as many parameters."""
    if ours.get("parameters") != other.get("parameters"):
        raise NotMeasuredError(f"failed: {ours.get('parameters')} parameters against {other.get('parameters')}")


def judged(row: Row, ratio: float, low: float, high: float) -> Result:
    """Whether the ratio meets the goal, and whether its whole interval does."""
    if row.goal is None:
        return {}
    if row.goal.slower:
        return {"met": ratio <= row.goal.bound, "met_by_interval": high <= row.goal.bound}
    return {"met": ratio >= row.goal.bound, "met_by_interval": low >= row.goal.bound}
