"""The entry point of the command `aep`, and of `python -m aep`."""

import gc
import os
import signal


def main() -> None:
    """Runs the command. As process 1 of a container it ends by SIGTERM also before it serves.

    The kernel drops signals for which process 1 has no handler. So the handler comes before the imports,
    which take a while. Ctrl-C meanwhile ends without a traceback.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:  # not in a shell's background job, which ignores it
        signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))
    gc.set_threshold(50_000, 20, 50)  # what is imported is no garbage: a start takes a tenth less
    from aep.cli.main import main as run

    signal.signal(signal.SIGINT, interrupted)
    run()


if __name__ == "__main__":
    main()
