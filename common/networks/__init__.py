"""Networks before and beside their training: checks of arguments and images, starts, training in memory."""
