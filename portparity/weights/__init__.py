"""The original's weights in the port: by the user's converter, watched, or by kind, shape and order."""
