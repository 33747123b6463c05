"""Frees what the frames of a handled error hold, such as the body of a refused request."""


def drop_tracebacks(error: BaseException) -> None:
    """Drops the tracebacks of a handled error and of the errors behind it.

    An error that a frame of its own traceback refers to, as a future that was awaited does, keeps all those
    frames until the garbage collector runs. The frames themselves are not cleared: that would end a coroutine
    that caught the same error and still runs.
    """
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        found = left.pop()
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            found.__traceback__ = None
            left += found.__cause__, found.__context__
