"""The lines of the platform's log about the PIMs that a registry has read, whatever store keeps them."""

from collections.abc import Sequence

import structlog

from ..domain.tenants import (
    PIMS_NAMED,
    ROUTE_FIX,
    WEAK_SECRET_FIX,
    Tenant,
    may_lack_token_info,
    plain_http_problem,
)

log = structlog.get_logger()


def log_registry(tenants: Sequence[Tenant]) -> None:
    """Writes how many PIMs are in force, and a line for what their operator should mend."""
    for tenant in tenants:
        if weak := tenant.weak_secrets():
            log.warning("pims.weak_secrets", tenant=tenant.name, secrets=weak, fix=WEAK_SECRET_FIX)
    if unsure := [tenant.name for tenant in tenants if may_lack_token_info(tenant)]:
        log.warning("pims.token_info", tenants=unsure[:PIMS_NAMED], fix=ROUTE_FIX)
    log.info("pims.read", pims=len(tenants))


def is_allowed(tenant: Tenant, *, allow_http: bool) -> bool:
    """Leaves out what was added for work on one's own machine, and logs it for the operator."""
    problem = plain_http_problem(tenant, allow_http=allow_http)
    if problem is not None:
        log.warning("pims.left_out", error=problem)
    return problem is None
