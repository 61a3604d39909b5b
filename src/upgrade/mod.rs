//! The upgrade of a whole cluster, as one transaction.
//!
//! | module | holds |
//! |---|---|
//! | [`rules`] | how the operator wants it done: order, batches, time limits |
//! | [`fleet`] | the nodes as last seen, and who of them may become master |
//! | [`order`] | which nodes are upgraded together, and when |
//! | [`transaction`] | where the transaction stands: what is replicated, and what a status shows |
//! | [`action`] | what is to be done on a node, and what came of it |
//! | [`plan`] | pure: (transaction, event, now) → actions |
//! | `rollback` | the way back |
//! | [`state`] | what all sidecars agree on: the registry, the transaction, its journal |
//! | [`wish`] | what an operator asks for |
//! | [`ahead`] | what is still to come, if nothing fails |
//! | [`view`] | all of it for an operator |
//! | [`desk`] | what an operator's commands reach |
//!
//! Nothing here does IO, reads a clock or draws a random number: what a coordinator decides must be what any
//! other would have decided, and a simulation must replay exactly.

pub mod action;
pub mod ahead;
pub mod desk;
pub mod fleet;
pub mod order;
pub mod plan;
mod rollback;
pub mod state;
pub mod transaction;
pub mod view;
pub mod wish;

pub use crate::config::rules;
