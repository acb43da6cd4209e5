"""A server of the command's own, as `voiceforge serve` starts it with the same settings."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from frontend.app import embedded_triton
from frontend.capacity.errors import CannotStart
from frontend.capacity.target import Target
from frontend.provision import AUTO, provision
from frontend.settings import Settings
from frontend.workers.pool import Workers


@asynccontextmanager
async def own_server(model: str | None, tritons: str, say: Callable[[str], None]) -> AsyncGenerator[Target]:
    """Front ends in processes of their own, so that their CPU time is not this command's. `tritons`: URLs of an external
    Triton's metrics, where the settings name one.

    Raises `CannotStart`, `InvalidOption`.
    """
    settings = Settings(host="127.0.0.1", port=0)
    if model:
        settings.model = [model]
    async with AsyncExitStack() as held:
        try:
            if settings.triton is None:
                names = provision(settings, say, say)
                say("starting Triton and the front end")
                embedded = await held.enter_async_context(embedded_triton(settings, names))
                address, tritons = embedded.address, embedded.metrics_url
            else:
                names, address = [name for name in settings.model if name != AUTO], settings.triton
            workers = await held.enter_async_context(Workers(settings, address, names))
        except Exception as error:  # whatever the hub, the disk, Triton or a port says
            said = " ".join(str(error).split())
            raise CannotStart(f"no server comes up here ({said}); `voiceforge doctor` tells why") from error
        yield Target.of(f"http://127.0.0.1:{workers.port}", tritons, None, next(iter(settings.keys), None), None)
