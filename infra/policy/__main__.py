"""The changes that no program may make: `pulumi up --policy-pack policy` refuses them."""

from pulumi_policy import EnforcementLevel, Policy, PolicyPack, ResourceValidationPolicy

from rules import RULES

policies: list[Policy] = [
    ResourceValidationPolicy(
        name=rule.__name__.replace("_", "-"), description=rule.__doc__ or "", validate=rule
    )
    for rule in RULES
]
PolicyPack(name="event-platform", enforcement_level=EnforcementLevel.MANDATORY, policies=policies)
