//! In-process tests, and tests of the program itself that need no store.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod config_cli;
mod config_files;
mod limits;
mod mesh;
mod readme;
mod reload;
mod restart;
mod through;
mod verdicts;
