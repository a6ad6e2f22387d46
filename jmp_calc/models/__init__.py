"""The network: configuration, layers, backbone, heads, and its weights files."""
