"""What networks compute for points: captured, probed, or measured as they train."""
