"""The page Follow a token: the stages of one layer, and every layer after them."""
