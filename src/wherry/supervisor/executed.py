"""A process that `docker exec` started: its output goes straight to the one client it was started for."""

from __future__ import annotations

from wherry.supervisor import stdio
from wherry.supervisor.attach import Client
from wherry.supervisor.messages import ExecLaunch
from wherry.supervisor.output import PipeOutput
from wherry.supervisor.process import Process


class ExecutedProcess(Process):
    """Nothing of it is logged; without a client (detached, or gone) output is read and dropped."""

    _output: PipeOutput | None = None

    def run(self) -> None:
        """Serve the streams; before a client is connected, output is dropped."""
        super().run()
        self._make_output(framed=False).close()

    def connect(self, client: Client, launch: ExecLaunch) -> None:
        """Serve the streams to `client`."""
        super().run()
        output = self._make_output(framed=not self.meta.tty)
        self.clients.append(client)
        client.belong(self)
        sink = self.sink if launch.stdin else None
        client.connect(output, sink, launch.detach_keys if self.meta.tty else None)

    def drain(self) -> bool:
        """Send or drop what is there."""
        if self._output is None:
            return True
        self._pump()
        # A terminal has no end while its slave is held; what its process wrote was there to be read.
        return self.output_ended() or (self.meta.tty and not self._output.blocked)

    def output_ended(self) -> bool:
        """Whether every pipe has come to its end."""
        return self._output is None or self._output.ended

    def output_waits(self) -> bool:
        """Whether the client is behind."""
        return self._output is not None and self._output.blocked

    def stop_output(self) -> None:
        """Read no more; what was read is still sent."""
        if self._output is not None:
            self._output.stop()

    def _make_output(self, *, framed: bool) -> PipeOutput:
        pipes = stdio.outputs(self.fds)
        reactor = self.house.reactor
        self._output = PipeOutput(reactor, pipes, framed, self._pump, self.check_end, self.at_pipe)
        return self._output

    def _pump(self) -> None:
        for client in list(self.clients):
            client.pump()
