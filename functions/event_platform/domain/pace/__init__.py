"""The pace of a subscription: its rate, its lanes, and how answers change them."""
