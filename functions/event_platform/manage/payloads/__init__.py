"""Request bodies of the management API by resource, and every problem of an invalid one."""
