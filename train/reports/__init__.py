"""Pages and pictures of what was measured: docs/results.md, the figures of the networks, the README's picture."""
