"""Everything that needs neither tensors nor gradients: data, draws, checkpoints, metrics, figures, options."""
