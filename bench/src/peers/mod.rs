//! Other programs that pass bytes, to measure Segue against: fetched from Debian, not installed.

pub mod programs;
pub mod proxy;
pub mod usage;
