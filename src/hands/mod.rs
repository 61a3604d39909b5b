//! What a sidecar does for an upgrade of its cluster: it leads it, and it works on its own node.
