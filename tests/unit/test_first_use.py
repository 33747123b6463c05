"""What is slow at its first use is loaded once, and no event loop waits for it."""

import asyncio
import subprocess
import sys
import threading

import pytest

from event_platform.first_use import FirstUse
from support.eventually import eventually


async def test_it_is_loaded_once_in_a_thread_while_the_loop_goes_on() -> None:
    threads: list[threading.Thread] = []
    may_end = threading.Event()

    def load() -> None:
        threads.append(threading.current_thread())
        may_end.wait(10)

    first_use = FirstUse(load)
    waiting = [asyncio.create_task(first_use.ready()) for _ in range(3)]
    await eventually(lambda: threads)
    assert not any(task.done() for task in waiting)
    may_end.set()
    await asyncio.gather(*waiting)
    await first_use.ready()
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_what_failed_is_loaded_again() -> None:
    results = iter([ImportError("not installed"), None])

    def load() -> None:
        if (error := next(results)) is not None:
            raise error

    first_use = FirstUse(load)
    with pytest.raises(ImportError):
        await first_use.ready()
    await first_use.ready()


USED = """
import sys
from event_platform.manage.payloads.body import Rules, validated
from event_platform.manage.payloads.subscribers import ContactBody
from event_platform.manage.payloads.values import FIRST_BODY
from event_platform.domain import filters
from event_platform.domain.events import catalog
FIRST_BODY.load()
loaded = set(sys.modules)
filters.predicate_of('user = "erp"')
rules = Rules("https://pim.example.com", False, True)
validated(ContactBody, {"technical_email": "someone@bücher.example"}, rules=rules)
catalog.load().nearest("com.akeneo.pim.v1.product.update")
print(sorted({name.partition(".")[0] for name in set(sys.modules) - loaded}))
"""


def test_the_first_body_finds_everything_loaded() -> None:
    """In a process of its own, as others have used the libraries in this one."""
    ended = subprocess.run([sys.executable, "-c", USED], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
