"""Live sources of events: packets, frames of steps as they end, replay, a socket, running predictions."""

from bitspike.data.events.live.framing import LiveFrames, LiveStep
from bitspike.data.events.live.packets import Packet
from bitspike.data.events.live.replay import replay
from bitspike.data.events.live.running import Live, run_live
from bitspike.data.events.live.tcp import EventListener, send_events

__all__ = ["EventListener", "Live", "LiveFrames", "LiveStep", "Packet", "replay", "run_live", "send_events"]
