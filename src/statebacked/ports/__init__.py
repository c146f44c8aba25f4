"""What the engine needs from outside, as protocols. Adapters live in store/, runtime/ and egress/."""
