//! Interception by the kernel, with real stores on hosts of their own: network namespaces that the tests make.
//!
//! Needs root, `ip` and `nft`. Without them nothing is tested, and the tests say so; where `CI=true` that is
//! a failure. Run one test alone with `cargo test --test netns <name>`.

mod apart;
mod cluster;
mod etcd;
mod failure;
mod lab;
mod links;
mod own;
mod rules;
mod sentinel;
mod takeover;
mod tls;
mod upgrade;
