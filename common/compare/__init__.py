"""Models and runs next to each other: sizes, losses, images, and the reports of them."""
