"""A fixed address for what goes out, as receivers list the addresses that they let in."""

import pulumi
import pulumi_gcp as gcp
from pulumi_gcp.cloudfunctionsv2 import FunctionServiceConfigDirectVpcNetworkInterfaceArgs

from .part import Part, Project

RANGE = "10.8.0.0/22"
"""Each instance takes an address, and frees it minutes after its end."""


class Egress(Part):
    """A network of its own behind one public address. Google's services are reached without it."""

    def __init__(self, project: Project) -> None:
        super().__init__("Egress", "egress", project)
        region = self.settings.region
        self._network = gcp.compute.Network(
            "egress", name="event-platform", auto_create_subnetworks=False, opts=self.child()
        )
        self._subnetwork = gcp.compute.Subnetwork(
            "egress",
            name="event-platform",
            network=self._network.id,
            region=region,
            ip_cidr_range=RANGE,
            private_ip_google_access=True,
            opts=self.child(),
        )
        router = gcp.compute.Router(
            "egress", name="event-platform", network=self._network.id, region=region, opts=self.child()
        )
        address = gcp.compute.Address(
            "egress", name="event-platform-egress", region=region, opts=self.child(holds_data=True)
        )
        gcp.compute.RouterNat(
            "egress",
            name="event-platform",
            router=router.name,
            region=region,
            nat_ip_allocate_option="MANUAL_ONLY",
            nat_ips=[address.self_link],
            source_subnetwork_ip_ranges_to_nat="ALL_SUBNETWORKS_ALL_IP_RANGES",
            enable_dynamic_port_allocation=True,
            min_ports_per_vm=256,
            max_ports_per_vm=4096,
            enable_endpoint_independent_mapping=False,
            log_config={"enable": True, "filter": "ERRORS_ONLY"},
            opts=self.child(),
        )
        self.address: pulumi.Output[str] = address.address
        self.register_outputs({})

    def interface(self) -> FunctionServiceConfigDirectVpcNetworkInterfaceArgs:
        """Returns the place of a function's instances in the network."""
        return FunctionServiceConfigDirectVpcNetworkInterfaceArgs(
            network=self._network.id, subnetwork=self._subnetwork.id
        )
