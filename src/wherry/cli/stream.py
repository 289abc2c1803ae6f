"""An attached stream: standard input into it, what comes out of it to the right descriptor.

Input has a thread of its own, so that a full pipe in one direction never stops the other. Files are
sent by the kernel; output is read in large pieces and written as they lie.
"""

from __future__ import annotations

import _socket
import _thread
import errno
import os
import select

from wherry.cli.terminal import KeyWatch
from wherry.model.frames import STDERR, Demultiplexer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_READ = 1 << 20
_SENT = 1 << 24
_F_SETPIPE_SZ = 1031


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`, waiting where the descriptor does not block."""
    view = memoryview(data)
    while len(view):
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()


class AttachedStream:
    """Runs one upgraded connection to its end. `detached` tells whether the keys ended it."""

    def __init__(
        self,
        sock: _socket.socket,
        rest: bytes,
        *,
        multiplexed: bool,
        stdin: bool,
        keys: bytes = b"",
    ) -> None:
        self._socket = sock
        self._rest = rest
        self._multiplexed = multiplexed
        self._stdin = stdin
        self._keys = keys
        self.detached = False

    def run(self) -> bool:
        """Return when the engine has closed its end; False when the keys detached."""
        if self._stdin:
            _thread.start_new_thread(self._input, ())
        else:
            self._close_write()
        try:
            if self._multiplexed:
                self._output_frames()
            else:
                self._output_raw()
        finally:
            if not self._stdin:
                self._socket.close()
        return not self.detached

    def _output_raw(self) -> None:
        if self._rest:
            write_all(1, self._rest)
        buffer = memoryview(bytearray(_READ))
        while count := self._receive(buffer):
            write_all(1, buffer[:count])

    def _output_frames(self) -> None:
        frames = Demultiplexer()
        if self._rest:
            _write_frames(frames, memoryview(self._rest))
        buffer = memoryview(bytearray(_READ))
        while count := self._receive(buffer):
            _write_frames(frames, buffer[:count])

    def _receive(self, buffer: memoryview) -> int:
        try:
            return self._socket.recv_into(buffer)
        except (ConnectionResetError, OSError):
            return 0

    def _input(self) -> None:
        try:
            if self._keys:
                self._typed()
            else:
                self._piped()
        except OSError:
            # The engine has closed its end, or standard input is unreadable: nothing more goes in.
            pass
        if self.detached:
            self._shutdown(_socket.SHUT_RDWR)
        else:
            self._close_write()

    def _typed(self) -> None:
        watch = KeyWatch(self._keys)
        while data := os.read(0, 4096):
            self._socket.sendall(watch.feed(data))
            if watch.found:
                self.detached = True
                return

    def _piped(self) -> None:
        if _sent_as_file(self._socket):
            return
        _widen(0)
        buffer = memoryview(bytearray(_READ))
        while count := os.readv(0, [buffer]):
            self._socket.sendall(buffer[:count])

    def _close_write(self) -> None:
        self._shutdown(_socket.SHUT_WR)

    def _shutdown(self, how: int) -> None:
        try:
            self._socket.shutdown(how)
        except OSError:
            pass


def _sent_as_file(sock: _socket.socket) -> bool:
    """Send standard input by sendfile(2); False, with nothing sent, where it is no regular file.

    Pipes are not spliced: splice(2) into a full socket sleeps with the pipe's lock held (Linux 6.18),
    and whoever fills the pipe and reads the answer in one thread then sleeps for good, unkillable.
    """
    sent = False
    try:
        while os.sendfile(sock.fileno(), 0, None, _SENT):
            sent = True
    except OSError as error:
        if sent or error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ESPIPE, errno.EOPNOTSUPP):
            raise
        return False
    return True


def _widen(descriptor: int) -> None:
    """Let a pipe hold as much as one read takes; refused above the user's limit, harmlessly."""
    import fcntl

    try:
        fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _READ)
    except OSError:
        pass


def _write_frames(frames: Demultiplexer, data: memoryview) -> None:
    """Write each stream's frames, neighbours of one stream in one call."""
    target = 0
    batch: list[memoryview] = []
    for stream, piece in frames.feed(data):
        descriptor = 2 if stream == STDERR else 1
        if batch and (descriptor != target or len(batch) == 512):
            _write_batch(target, batch)
            batch = []
        target = descriptor
        batch.append(piece)
    if batch:
        _write_batch(target, batch)


def _write_batch(descriptor: int, batch: list[memoryview]) -> None:
    if len(batch) == 1:
        write_all(descriptor, batch[0])
        return
    try:
        written = os.writev(descriptor, batch)
    except BlockingIOError:
        written = 0
    for piece in batch:
        if written >= len(piece):
            written -= len(piece)
        else:
            write_all(descriptor, piece[written:])
            written = 0


def write_stream(pieces: Iterable[bytes], multiplexed: bool) -> None:
    """Write an answer's body (an iterable of bytes) to standard output, frames to their streams."""
    frames = Demultiplexer()
    for piece in pieces:
        if multiplexed:
            _write_frames(frames, memoryview(piece))
        else:
            write_all(1, piece)
