"""The engine process: `python -m server.engine.process`, started by `server.engine.remote` and by nobody else.

The first line of standard input is a `Launch`; end of input means that the parent is gone, and ends this process
too. Commands and events travel as msgpack over two Unix sockets in a directory that only this user can enter.
"""

import gc
import logging
import os
import signal
import sys
import threading
import time

import msgspec
import zmq

from server.config import Settings
from server.engine.base_progress import TerminalProgress
from server.engine.build import BuiltEngine, build_engine
from server.engine.messages import Command, Event, Ready, StartFailed, StartFailureCode, Stop
from server.engine.remote import Launch
from server.errors import BaseModelError, ConfigurationError, SwitchyardError
from server.logs import configure_logs

_log = logging.getLogger(__name__)

_ORPHAN_GRACE = 5.0
"""Seconds that a loop whose parent is gone gets to end by itself."""


def main() -> int:
    """Serve one parent until it sends `Stop` or goes away."""
    # A terminal or a supervisor signals the whole group; when this process ends is its parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    launch = msgspec.json.decode(sys.stdin.buffer.readline(), type=Launch)
    settings = Settings.model_validate_json(launch.settings)
    configure_logs(settings.log_level)
    context = zmq.Context()
    events = context.socket(zmq.PUSH)
    events.setsockopt(zmq.SNDHWM, 0)
    events.connect(launch.events_address)
    encoder = msgspec.msgpack.Encoder()

    def deliver(batch: list[Event]) -> None:
        events.send(encoder.encode(batch))

    holder: list[BuiltEngine] = []
    threading.Thread(target=_watch_parent, args=(holder,), daemon=True).start()
    try:
        built = build_engine(settings, deliver=deliver, progress=TerminalProgress())
    except SwitchyardError as error:
        deliver([StartFailed(code=_start_code(error), message=error.message)])
        context.destroy(linger=1000)
        return 1
    # What was built stays: a collection that went through it, and through all libraries, would hold a step for 0.2 s.
    gc.collect()
    gc.freeze()
    holder.append(built)
    threading.Thread(target=_receive, args=(context, launch.commands_address, built), daemon=True).start()
    deliver([Ready(info=built.info)])
    built.loop.run()
    events.close(linger=1000)
    return 0


def _receive(context: zmq.Context[zmq.Socket[bytes]], address: str, built: BuiltEngine) -> None:
    """Hand every command to the loop, on a thread of its own so that none waits for a step."""
    decoder = msgspec.msgpack.Decoder(Command)
    commands = context.socket(zmq.PULL)
    commands.connect(address)
    try:
        while True:
            built.loop.send(decoder.decode(commands.recv()))
    except BaseException:
        _log.exception("no further command can be taken")
        os._exit(1)  # an engine that hears nothing must not look ready


def _watch_parent(holder: list[BuiltEngine]) -> None:
    """Leave when standard input ends: nobody could read what this process would still say."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    if holder:
        holder[0].loop.send(Stop())
        time.sleep(_ORPHAN_GRACE)
    os._exit(1)


def _start_code(error: SwitchyardError) -> StartFailureCode:
    match error:
        case BaseModelError():
            return "base_model_error"
        case ConfigurationError():
            return "configuration_error"
        case _:
            return "internal_error"


if __name__ == "__main__":
    sys.exit(main())
