"""A stand-in for Google's Pulumi provider, to which the real Pulumi CLI speaks the real plugin protocol.

It knows each resource type of the installed package pulumi_gcp. Inputs are checked against the argument
classes of that package and, where a file of rules is given, against the rules of the Terraform schema. The
resources exist in the stack's state, and topics and subscriptions also on a Pub/Sub emulator where one is
configured. No request leaves this machine.

Environment variables, all optional:

- `STANDIN_RULES`: a JSON file, token -> path -> rule (allowed values, patterns, ranges, conflicts, defaults,
  what forces a replacement). Without it only `replacement.py` says what forces one.
- `STANDIN_CLOUD`: a folder in which the stand-in keeps what Google would have (`cloud.py`), and in which
  `faults.json` says which calls fail (`faults.py`). Without it no call fails.
"""
