"""The one function for what blocks: a call of boto3 waits in a thread, never in the event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any


async def in_thread(function: Callable[..., Any], **parameters: Any) -> Any:
    """Runs function(**parameters) in the event loop's pool of threads, and returns or raises what it does.

    asyncio.to_thread would copy the context for each call, which costs a tenth of boto3's own CPU time.
    """
    call = functools.partial(function, **parameters)
    return await asyncio.get_running_loop().run_in_executor(None, call)
