//! The AOF rewriter from outside: what older releases get, files that are joined, ends that are cut off.

#![allow(clippy::unwrap_used)]

mod cuts;
mod files;
mod support;
