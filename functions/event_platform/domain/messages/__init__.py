"""Messages between the functions, as topics carry them."""
