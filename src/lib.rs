//! Segue, a sidecar that translates a storage cluster's inter-node link between releases.

pub mod status;
