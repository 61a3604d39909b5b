//! Interception by the kernel: which connections nftables hands to the sidecar, put in place and taken
//! away again.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | [`Plan`]: a pure value, from the config; which rules there are, and why |
//! | `text` | a plan as text: the ruleset for `nft`, the arguments for `ip` |
//! | [`apply`] | carries a plan out with `nft` and `ip`, and undoes it |
//! | [`guard`] | undoes it when the sidecar is gone |
//! | [`verify`] | proves each rule with a real connection; from `neighbour`, where it must come from outside |

mod neighbour;
mod text;

pub mod apply;
pub mod guard;
pub mod plan;
pub mod verify;

pub use apply::{InterceptError, install, remove};
pub use plan::Plan;
