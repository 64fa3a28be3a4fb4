"""From text to tokens: sources, synthetic problems, the plain-text format, packing."""
