//! Real stores of every release, linked through a real sidecar.
//!
//! Stores are fetched into `target/stores` (`cargo verify` does it beforehand); one that can't be had is
//! a failure. Run one test alone with `cargo test --test matrix <name>`.

mod aof;
mod apart;
mod apart_tls;
mod bus;
mod chains;
mod cluster;
mod convert;
mod crashes;
mod cuts;
mod documents;
mod elections;
mod etcd;
mod feeds;
mod forms;
mod handover;
mod large;
mod links;
mod losses;
mod migrate;
mod nodes;
mod pairs;
mod reload;
mod restart;
mod resync;
mod slots;
mod spoken;
mod switch;
mod tls;
mod toggles;
mod upgrade;
mod valve;
mod waits;
