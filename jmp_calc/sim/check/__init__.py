"""Whether a calculator is safe for dynamics: many small tests, each with its limit."""
