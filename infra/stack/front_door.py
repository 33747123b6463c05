"""The platform's own domain: one address for manage and ingest, behind Cloud Armor."""

import hashlib

import pulumi
import pulumi_gcp as gcp
from pulumi_gcp.compute import (
    SecurityPolicyRuleArgs,
    SecurityPolicyRuleMatchArgs,
    SecurityPolicyRuleMatchConfigArgs,
    SecurityPolicyRuleRateLimitOptionsArgs,
    SecurityPolicyRuleRateLimitOptionsRateLimitThresholdArgs,
)

from .function import CloudFunction
from .part import Part, Project

REQUESTS_A_MINUTE = 6000
"""The requests that an address may send to the whole domain: more than a PIM sends in a burst."""

LAST = 2147483647
"""The priority that Cloud Armor wants of its default rule."""


def certificate_name(domain: str) -> str:
    """Returns a name that changes with the domain.

    A certificate in use cannot be deleted, nor be given another domain: the next one is made beside it.
    """
    return f"event-platform-{hashlib.sha256(domain.encode()).hexdigest()[:8]}"


class FrontDoor(Part):
    """A load balancer with a certificate of Google's: `/ingest` to ingest, the rest to manage."""

    def __init__(
        self, project: Project, domain: str, *, manage: CloudFunction, ingest: CloudFunction
    ) -> None:
        super().__init__("FrontDoor", "front-door", project)
        self._armor = self._policy()
        to_manage, to_ingest = self._backend(manage), self._backend(ingest)
        urls = gcp.compute.URLMap(
            "front-door",
            name="event-platform",
            default_service=to_manage.id,
            host_rules=[{"hosts": [domain], "path_matcher": "all"}],
            path_matchers=[
                {
                    "name": "all",
                    "default_service": to_manage.id,
                    "path_rules": [{"paths": ["/ingest", "/ingest/*"], "service": to_ingest.id}],
                }
            ],
            opts=self.child(),
        )
        certificate = gcp.compute.ManagedSslCertificate(
            "front-door", name=certificate_name(domain), managed={"domains": [domain]}, opts=self.child()
        )
        tls = gcp.compute.SSLPolicy(
            "front-door",
            name="event-platform",
            profile="MODERN",
            min_tls_version="TLS_1_2",
            opts=self.child(),
        )
        proxy = gcp.compute.TargetHttpsProxy(
            "front-door",
            name="event-platform",
            url_map=urls.id,
            ssl_certificates=[certificate.id],
            ssl_policy=tls.id,
            opts=self.child(),
        )
        address = gcp.compute.GlobalAddress(
            "front-door", name="event-platform", opts=self.child(holds_data=True)
        )
        gcp.compute.GlobalForwardingRule(
            "front-door",
            name="event-platform",
            target=proxy.id,
            port_range="443",
            ip_address=address.address,
            load_balancing_scheme="EXTERNAL_MANAGED",
            opts=self.child(),
        )
        self.address: pulumi.Output[str] = address.address
        self.register_outputs({})

    def _policy(self) -> gcp.compute.SecurityPolicy:
        everybody = SecurityPolicyRuleMatchArgs(
            versioned_expr="SRC_IPS_V1",
            config=SecurityPolicyRuleMatchConfigArgs(src_ip_ranges=["*"]),
        )
        return gcp.compute.SecurityPolicy(
            "front-door",
            name="event-platform",
            rules=[
                SecurityPolicyRuleArgs(
                    action="throttle",
                    priority=1000,
                    description="no address may drown the others",
                    match=everybody,
                    rate_limit_options=SecurityPolicyRuleRateLimitOptionsArgs(
                        conform_action="allow",
                        exceed_action="deny(429)",
                        enforce_on_key="IP",
                        rate_limit_threshold=SecurityPolicyRuleRateLimitOptionsRateLimitThresholdArgs(
                            count=REQUESTS_A_MINUTE, interval_sec=60
                        ),
                    ),
                ),
                SecurityPolicyRuleArgs(action="allow", priority=LAST, description="default", match=everybody),
            ],
            opts=self.child(),
        )

    def _backend(self, function: CloudFunction) -> gcp.compute.BackendService:
        name = function.function_name
        group = gcp.compute.RegionNetworkEndpointGroup(
            f"front-door-{name}",
            name=f"event-platform-{name}",
            region=self.settings.region,
            network_endpoint_type="SERVERLESS",
            cloud_run={"service": function.function.name},
            opts=self.child(),
        )
        return gcp.compute.BackendService(
            f"front-door-{name}",
            name=f"event-platform-{name}",
            protocol="HTTPS",
            load_balancing_scheme="EXTERNAL_MANAGED",
            security_policy=self._armor.id,
            backends=[{"group": group.id}],
            # Each line; those of requests that went well are left out again, see observability.py.
            log_config={"enable": True, "sample_rate": 1.0},
            opts=self.child(),
        )
