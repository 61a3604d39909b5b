//! The RDB rewriter from outside: real snapshots, cuts, bounds, damage, losses, payloads.

#![allow(clippy::unwrap_used)]

mod bounds;
mod cuts;
mod damage;
mod golden;
mod losses;
mod payloads;
mod support;
