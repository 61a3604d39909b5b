//! What the sidecar asks of a store itself.

pub mod driver;
pub mod exec;
pub mod redis;
