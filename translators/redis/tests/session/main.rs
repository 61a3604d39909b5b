//! The session as the relay sees it: bytes in, effects out.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod apart;
mod client;
mod cuts;
mod link;
mod model;
mod offsets;
mod peers;
mod phases;
mod resumes;
