"""What the platform uses of the world: each module implements ports with one technology."""
