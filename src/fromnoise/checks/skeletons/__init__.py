"""Short, working files that ``fromnoise new`` copies: one for each kind of addition."""
