"""The seam to the engine: a small Protocol, its Triton client, and a scripted fake for tests."""
