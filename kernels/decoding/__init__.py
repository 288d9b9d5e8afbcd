"""Draft and verify: trees of drafted tokens, and the rules by which a model accepts them."""
