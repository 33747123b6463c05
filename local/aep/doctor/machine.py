"""All checks of this machine, in the order in which they are shown."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from event_platform.adapters.guard import TrustedNetwork
from event_platform.adapters.pubsub.topics import rules_on_one_machine
from event_platform.settings import Settings, wrong_setting

from . import apps, certificates, clocks, network, program, registry, stored, tools
from . import folder as data_folder
from .credentials import Credentials
from .findings import Check, broken


def everything(
    folder: Path,
    pims_file: str | None,
    unknown: Mapping[str, str | None],
    *,
    tls_cert: Path | None = None,
    with_tools: bool = False,
) -> list[Check]:
    """Runs the checks for the platform that `aep serve` with these options would be.

    `unknown` are the `AEP_` variables that nothing reads, each with the name that may be meant. `with_tools`
    adds what no server needs.
    """
    settings, wrong = _settings(pims_file)
    found = [
        *program.checks(settings),
        *wrong,
        *program.unknown_settings(unknown),
        *data_folder.checks(folder, settings),
        *stored.checks(folder, datetime.now(UTC)),
        *registry.checks(folder, settings, datetime.now(UTC)),
        *asyncio.run(_of_others(folder, settings, tls_cert)),
    ]
    if with_tools or settings.destination_account is not None:
        rules = rules_on_one_machine(settings.destination_account, os.environ)
        found.append(tools.pubsub_destinations(rules))
    if with_tools:
        found += tools.checks(os.environ)
    return found


async def _of_others(folder: Path, settings: Settings, tls_cert: Path | None) -> list[Check]:
    """Runs the checks for which others are asked: name servers, PIMs, the mail server; and of the clock."""
    tenants = registry.known(folder, settings)
    urls = [tenant.url for tenant in tenants if tenant.url is not None]
    names, of_apps, certificate, mail, times = await asyncio.gather(
        network.names(network.hosts_of(urls), TrustedNetwork()),
        apps.checks(tenants, Credentials()),
        certificates.next_end(settings.public_url, urls, tls_cert, datetime.now(UTC)),
        network.mail(settings.mail_server()),
        clocks.compared(urls),
    )
    return [*names, *of_apps, certificate, mail, clock(folder, times)]


def clock(folder: Path, pims: Sequence[clocks.Compared] = ()) -> Check:
    return clocks.clock(
        datetime.now(UTC),
        stored.last_time(folder),
        stored.lead(folder),
        os.environ.get("TZ", ""),
        kernel=clocks.kernel_clock(),
        pims=pims,
    )


def _settings(pims_file: str | None) -> tuple[Settings, list[Check]]:
    """Returns the settings; the defaults when a variable is wrong, and a finding about that."""
    given = {} if pims_file is None else {"pims": pims_file}
    try:
        return Settings(**given), []  # pyright: ignore[reportArgumentType] - checked by pydantic
    except ValidationError as error:
        return Settings.model_construct(), [broken("settings", wrong_setting(error))]
