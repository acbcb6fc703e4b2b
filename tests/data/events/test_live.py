"""Live sources: the frames of the whole recording, one by one; faults; constant memory; equal outputs."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bitspike
from bitspike.data.events import (
    EventListener,
    LiveFrames,
    Packet,
    Recording,
    count_frames,
    recording,
    replay,
    run_live,
    send_events,
)
from bitspike.data.events.live.tcp import EVENT, HEAD, MOST_EVENTS
from bitspike.graph import trace
from bitspike.layers import Flatten, Linear, MeanReadout
from bitspike.neurons import LIF

SIZE = (3, 4)


def drawn(count: int, span: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Recording:
    rng = np.random.default_rng(seed)
    t, (height, width) = np.sort(rng.integers(0, span, count)), size
    x, y, p = rng.integers(0, width, count), rng.integers(0, height, count), rng.integers(0, 2, count)
    return recording("toy", t, x, y, p, size, "skip")


def stacked(steps: LiveFrames) -> np.ndarray:
    found = list(steps)
    assert [step.number for step in found] == list(range(len(found)))
    start = steps.start_us or 0
    assert [step.end_us for step in found] == [start + (k + 1) * steps.step_us for k in range(len(found))]
    return np.stack([step.frame for step in found])


def cut(events: Recording, sizes: list[int]) -> Iterator[tuple[np.ndarray, ...]]:
    """Packets of so many events, again and again."""
    first = 0
    for size in itertools.cycle(sizes):
        part = slice(first, first + size)
        yield events.t[part], events.x[part], events.y[part], events.p[part]
        first += size
        if first >= len(events):
            return


@given(
    st.integers(1, 80),
    st.sampled_from([1, 50, 3000]),
    st.sampled_from([1, 7, 1000]),
    st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    st.sampled_from([1, 2]),
    st.sampled_from([None, (1, 1), (2, 3)]),
    st.integers(0, 2),
)
def test_frames_are_those_of_the_whole_recording(
    count: int, span: int, step: int, sizes: list[int], channels: int, size: Any, wait: int
) -> None:
    events = drawn(count, span, count)
    for start in (0, int(events.t[0]), None):
        begin = int(events.t[0]) if start is None else start
        T = (int(events.t[-1]) - begin) // step + 1
        whole = count_frames(events, T, start_us=begin, step_us=step, size=size, channels=channels)
        how: dict[str, Any] = {"start_us": start, "frames": size, "channels": channels, "wait": wait}
        np.testing.assert_array_equal(stacked(LiveFrames(cut(events, sizes), SIZE, step, **how)), whole)
        np.testing.assert_array_equal(stacked(LiveFrames([events], SIZE, step, **how)), whole)


def test_a_replay_has_the_frames_of_the_recording_and_those_after_it_that_it_vouches_for() -> None:
    events = drawn(50, 5000)
    live = stacked(LiveFrames(replay(events, None, 700, start_us=0), SIZE, 100))
    assert len(live) == -(-(int(events.t[-1]) + 1) // 700) * 7
    np.testing.assert_array_equal(live, count_frames(events, len(live), start_us=0, step_us=100))


def test_a_step_is_sent_as_soon_as_it_is_over() -> None:
    asked: list[int] = []

    def source() -> Iterator[Packet]:
        none = np.zeros(0, np.int64)
        for number, end in enumerate((500, 1000, 1999, 3000)):
            asked.append(number)
            yield Packet(none, none, none, none > 0, end)

    steps = LiveFrames(source(), SIZE, 1000)
    assert next(steps).number == 0 and asked == [0, 1]
    assert next(steps).number == 1 and asked == [0, 1, 2, 3]
    assert next(steps).number == 2 and next(steps, None) is None


@pytest.mark.parametrize(
    ("name", "event"),
    [("negative", (-1, 0, 0)), ("outside", (10, 4, 0)), ("outside", (10, 0, 3)), ("outside", (10, -1, 0)),
     ("late", (999, 0, 0)), ("ahead", (2_000 + 1000 * 100_001, 0, 0)), ("ahead", (2**63 - 1, 0, 0))],
)  # fmt: skip
def test_faults_are_refused_or_counted(name: str, event: tuple[int, int, int]) -> None:
    packets = [([5, 1500], [0, 0], [0, 0], [1, 1]), *[[[value] for value in (*event, 1)]], ([2500], [1], [1], [0])]
    with pytest.raises(ValueError, match=r"1 of 1 events .* or pass faults='skip'"):
        list(LiveFrames(packets, SIZE, 1000))
    steps = LiveFrames(packets, SIZE, 1000, faults="skip")
    assert len(stacked(steps)) == 3 and steps.skipped == {name: 1}


def test_late_events_are_awaited_as_long_as_asked() -> None:
    packets = [([t], [0], [0], [1]) for t in (2500, 1200, 200, 3100, 1999)]
    steps = LiveFrames(packets, SIZE, 1000, wait=2)
    assert stacked(steps).sum((1, 2, 3)).tolist() == [1, 2, 1, 1] and not steps.skipped
    with pytest.raises(ValueError, match="after their step was sent"):
        list(LiveFrames(packets, SIZE, 1000, wait=1))


def test_order_within_a_packet_does_not_matter_and_earlier_events_are_counted() -> None:
    steps = LiveFrames([([2500, 100, 1500], [0, 1, 2], [0, 0, 0], [1, 1, 1])], SIZE, 1000, start_us=1000)
    assert stacked(steps).sum((1, 2, 3)).tolist() == [1, 1] and steps.skipped == {"before": 1}


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (([1], [0], [0]), "four arrays"),
        (([1.5], [0], [0], [1]), "integers"),
        (([1], [0], [0], [2]), "0 .OFF. or 1"),
        (([1, 2], [0], [0], [1]), "one length"),
        (7, "source must give"),
        ("abcd", "source must give"),
    ],
)
def test_malformed_packets_are_refused(item: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        list(LiveFrames([item], SIZE, 1000, faults="skip"))


def test_ends_that_fall_or_leap_are_refused() -> None:
    none = np.zeros(0, np.int64)
    for ends in ((2000, 1000), (10**12,)):
        with pytest.raises(ValueError, match="clock"):
            list(LiveFrames([Packet(none, none, none, none, end) for end in ends], SIZE, 1000))
    with pytest.raises(ValueError, match="end_us"):
        Packet(none, none, none, none, -1)


@pytest.mark.parametrize(
    "wrong",
    [{"step_us": 0}, {"channels": 3}, {"wait": 1001}, {"faults": "no"}, {"start_us": -1}, {"frames": (4, 4)},
     {"size": (0, 1)}, {"step_us": 1.5}, {"frames": (3, 4), "size": (2**14, 2**14), "wait": 1000}],
)  # fmt: skip
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    given = {"size": SIZE, "step_us": 1000, **wrong}
    if wrong.get("wait") == 1000:
        given["frames"] = None
    with pytest.raises((TypeError, ValueError)):
        LiveFrames([], **given)


def test_a_replay_keeps_time_and_counts_what_piles_up() -> None:
    events = drawn(40, 40_000)
    begin = time.perf_counter()
    due = [packet.sent_s for packet in replay(events, 1.0, 10_000, start_us=0)]
    assert time.perf_counter() - begin >= 0.04 and all(sent is not None for sent in due)
    np.testing.assert_allclose(np.diff(np.array(due, float)), 0.01, atol=1e-9)
    slow = LiveFrames(replay(events, 1.0, 10_000, start_us=0), SIZE, 10_000)
    next(slow)
    time.sleep(0.1)  # the second step was due 90 ms ago
    assert time.perf_counter() - next(slow).closed_s > 0.08
    with pytest.raises(ValueError, match="speed"):
        replay(events, 0.0)


def drive(step_us: int, each: int, seconds: int) -> Iterator[Packet]:
    """Events of a long drive in packets of 50 steps; some steps are empty."""
    rng = np.random.default_rng(0)
    for end in range(50 * step_us, seconds * 1_000_000 + 1, 50 * step_us):
        t = np.sort(rng.integers(end - 50 * step_us, end, each))
        yield Packet(t, rng.integers(0, 4, each), rng.integers(0, 3, each), rng.integers(0, 2, each), end)


@pytest.mark.parametrize("seconds", [600, pytest.param(3600, marks=pytest.mark.slow)])
@pytest.mark.parametrize("wait", [0, 5])
def test_memory_stays_over_an_hour_of_events(wait: int, seconds: int) -> None:
    steps, total = LiveFrames(drive(50_000, 40, seconds), SIZE, 50_000, wait=wait), 0
    tracemalloc.start()
    try:
        for step in itertools.islice(steps, 2000):
            total += int(step.frame.sum())
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        number = 0
        for step in steps:
            total, number = total + int(step.frame.sum()), step.number
        kept, peak = (value - before for value in tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    assert number == 20 * seconds - 1 and total == 40 * seconds * 2 // 5
    assert kept < 20_000 and peak < 60_000, (kept, peak)


def served(send: Callable[[int], object]) -> list[Any]:
    """What a listener gives while something is sent."""
    with EventListener(timeout_s=5.0) as source:
        sender = threading.Thread(target=send, args=(source.port,))
        sender.start()
        try:
            return list(source)
        finally:
            sender.join(5.0)


def test_a_socket_gives_what_was_sent() -> None:
    events = drawn(MOST_EVENTS + 10, 10**6)
    counts: list[int] = []
    packets = served(lambda port: counts.append(send_events(port, [events, *replay(events, None, 10**5, 0)])))
    assert counts == [2 * len(events)] and [len(packet) for packet in packets[:2]] == [MOST_EVENTS, 10]
    for name in ("t", "x", "y", "p"):
        found = np.concatenate([getattr(packet, name) for packet in packets[:2]])
        np.testing.assert_array_equal(found, getattr(events, name))
    assert packets[-2].end_us == 10**6
    live = stacked(LiveFrames(packets[2:], SIZE, 1000))
    np.testing.assert_array_equal(live, count_frames(events, 1000, step_us=1000))


def test_the_bytes_are_as_documented() -> None:
    by_hand = b"BSEV" + struct.pack("<HHIq", 1, 1, 1, 900) + struct.pack("<qHHB3x", 7, 300, 2, 1)
    (packet,) = served(lambda port: raw(port, by_hand))
    assert [values.tolist() for values in (packet.t, packet.x, packet.y, packet.p)] == [[7], [300], [2], [1]]
    assert packet.end_us == 900 and EVENT.itemsize == 16 and HEAD.size == 20


def raw(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), 5.0) as link:
        link.sendall(data)


def head(magic: bytes = b"BSEV", version: int = 1, last: int = 1, count: int = 0, end: int = -1) -> bytes:
    return struct.pack("<4sHHIq", magic, version, last, count, end)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "stay up"),
        (head()[:19], "stay up"),
        (head(last=0), "stay up"),  # whole, but not the last one
        (head(count=2) + bytes(31), "stay up"),
        (head(magic=b"GET "), "BSEV"),
        (head(version=2), "version 2"),
        (head(last=2), "mark 2"),
        (head(count=MOST_EVENTS + 1), "at most 65536 events"),
        (head(count=2**32 - 1), "at most 65536 events"),
        (head(end=-2), "the end"),
        (head(end=2**63 - 1), "the end"),
        (head(count=1) + struct.pack("<qHHB3s", 1, 0, 0, 1, b"\0\0\1"), "last three bytes"),
        (head(count=1) + struct.pack("<qHHB3x", 1, 0, 0, 2), "0 .OFF. or 1"),
    ],
)
def test_a_malformed_message_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        served(lambda port: raw(port, data))


def test_a_silent_sender_and_none_at_all_are_refused() -> None:
    with EventListener(timeout_s=0.05) as source, pytest.raises(ValueError, match=r"nothing in 0\.05 s"):
        list(source)
    with (
        EventListener(timeout_s=0.05) as source,
        socket.create_connection(("127.0.0.1", source.port)),
        pytest.raises(ValueError, match=r"nothing in 0\.05 s"),
    ):
        list(source)


def test_what_no_message_can_hold_is_not_sent() -> None:
    for wrong in (([-1], [0], [0], [1]), ([1], [70_000], [0], [1]), ([2**62 + 1], [0], [0], [1])):
        with EventListener() as source, pytest.raises(ValueError, match="must lie in"):
            send_events(source.port, [wrong])


def network() -> torch.nn.Module:
    """On a dyadic grid, so that sums are exact."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(Flatten(), Linear(24, 8), LIF(decay=0.5), Linear(8, 3), MeanReadout())
    for parameter in net.parameters():
        parameter.data = (parameter.data * 16).round() / 16
    return net.eval()


def test_outputs_are_those_of_one_call() -> None:
    net, events = network(), drawn(400, 60_000, 1)
    frames = count_frames(events, 60, step_us=1000)
    x = torch.from_numpy(frames).float().unsqueeze(1)  # [60, 1, 2, H, W]
    program = bitspike.compile(bitspike.fold(net, x), [x])
    whole, told = program.stream(x.numpy())[0], bitspike.stream(net, x)[0].detach()
    for chunks in ([events], cut(events, [3, 0, 11])):
        packets = list(chunks)
        live = list(run_live(program, LiveFrames(packets, SIZE, 1000)))
        assert len(live) == 60 and all(found.latency_s >= 0 for found in live)
        np.testing.assert_array_equal(live[-1].output.levels, whole.levels)
        assert live[-1].output.steps == whole.steps == 60
        assert live[-1].prediction == int(whole.levels[0].argmax())
        for form in (net, trace(net)):
            felt = list(run_live(form, LiveFrames(packets, SIZE, 1000)))
            assert torch.equal(felt[-1].output, told) and not felt[-1].output.requires_grad
            assert felt[-1].prediction == int(told.argmax())
    part = program.stream(x[:20].numpy())[0]
    np.testing.assert_array_equal(live[19].output.levels, part.levels)


class Told(torch.nn.Module):
    """What `network` sends, as a dict beside its spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        spikes = self.net[2](self.net[1](self.net[0](x)))
        return {"kind": self.net[4](self.net[3](spikes)), "spikes": spikes}


def test_several_outputs_come_by_name_and_name_no_class() -> None:
    net, events = Told().eval(), drawn(400, 60_000, 1)
    x = torch.from_numpy(count_frames(events, 60, step_us=1000)).float().unsqueeze(1)
    program = bitspike.compile(bitspike.fold(net, x), [x])
    whole = program.stream(x.numpy())[0]
    live = list(run_live(program, LiveFrames([events], SIZE, 1000)))
    np.testing.assert_array_equal(live[-1].output["kind"].levels, whole["kind"].levels)
    np.testing.assert_array_equal(
        np.concatenate([each.output["spikes"].levels for each in live]), whole["spikes"].levels
    )
    felt = list(run_live(net, LiveFrames([events], SIZE, 1000)))
    assert set(felt[-1].output) == {"kind", "spikes"} and {each.prediction for each in (*live, *felt)} == {None}


def test_a_restart_forgets_and_top_divides() -> None:
    net, events = network(), drawn(400, 60_000, 1)
    x = torch.from_numpy(count_frames(events, 60, step_us=1000)).float().unsqueeze(1) / 4
    live = list(run_live(net, LiveFrames([events], SIZE, 1000), top=4, restart=25))
    for first, last in ((0, 25), (25, 50), (50, 60)):
        assert torch.equal(live[last - 1].output, bitspike.stream(net, x[first:last])[0])


def test_no_prediction_where_no_class_leads_and_wrong_arguments() -> None:
    net, none = network(), np.zeros(0, np.int64)
    for layer in (net[1], net[3]):
        if layer.bias is not None:
            layer.bias.data.zero_()
    silent = [Packet(none, none, none, none > 0, 3000)]
    assert [live.prediction for live in run_live(net, LiveFrames(silent, SIZE, 1000))] == [None] * 3
    with pytest.raises(ValueError, match=r"net\.eval"):
        run_live(network().train(), LiveFrames([], SIZE, 1000))
    with pytest.raises(TypeError, match="a program, a network"):
        run_live("net", LiveFrames([], SIZE, 1000))  # type: ignore[arg-type]
    for wrong in ({"top": 0}, {"restart": 0}):
        with pytest.raises(ValueError, match="must lie in"):
            run_live(net, LiveFrames([], SIZE, 1000), **wrong)
    with pytest.raises(ValueError, match="chunk must be"):
        list(run_live(bitspike.compile(bitspike.fold(net, torch.rand(4, 1, 2, 3, 4)), [torch.rand(4, 1, 2, 3, 4)]),
                      LiveFrames([([1], [0], [0], [1])], SIZE, 1000, channels=1)))  # fmt: skip
