//! Data sets: what a store is filled with before it is translated.

mod core;
mod newer;
mod streams;
mod strings;
mod typical;
mod writer;

use anyhow::Result;
use redis::Connection;

pub use newer::{LIBRARY, Newer, fill_newer};
pub use typical::fill_typical;

/// Databases that [`fill_core`] writes to.
pub const DATABASES: [u64; 3] = [0, 3, 9];

/// Fills the store with every type and every encoding that all releases from 5.0 on know, in databases 0, 3
/// and 9; the same data for the same `scale`. A scale of 1 makes about a thousand keys and 12 MB; numbers of
/// keys and lengths of the longest values grow with it. Only commands of 5.0 are used. Returns the number of
/// commands.
///
/// # Errors
/// The store does not answer or refuses a command.
pub fn fill_core(connection: &mut Connection, scale: u32) -> Result<u64> {
    let mut writer = writer::Writer::new(connection);
    for db in DATABASES {
        writer.send(crate::command!("SELECT", db))?;
        // The other databases show that keys come back in their own: a tenth will do.
        let scale = if db == 0 { scale.max(1) } else { 1 };
        let seed = db.wrapping_add(1);
        let fill = core::Fill { rng: fastrand::Rng::with_seed(seed), db, scale: usize::try_from(scale)? };
        fill.run(&mut writer)?;
    }
    writer.send(crate::command!("SELECT", 0))?;
    writer.finish()
}
