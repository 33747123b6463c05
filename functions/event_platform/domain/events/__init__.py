"""Events: what they hold, the types that there are, and the bytes in which they are delivered."""
