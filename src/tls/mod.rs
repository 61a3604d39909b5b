//! TLS on links: terminated where a dialer speaks it, originated where a store does.
//!
//! | module | holds |
//! |---|---|
//! | [`keys`] | certificate, key and CA: read from their files, ready for handshakes |
//! | [`client`] | what only a dialer needs: a CA, and a certificate where one is asked for |
//! | [`validity`] | from when to when certificates are good |
//! | [`current`] | the keys in use, which follow their files |
//! | `name_blind` | a store's certificate is checked, its name is not |
//! | [`names`] | whom a certificate is for |
//! | [`handshake`] | both kinds of handshake, each within a time |
//! | [`stream`] | a connection, plain or TLS |
//! | [`error`] | why there is no TLS, by a stable label |

pub mod client;
pub mod current;
pub mod error;
pub mod handshake;
pub mod keys;
mod name_blind;
pub mod names;
pub mod stream;
pub mod validity;

pub use client::ClientFiles;
pub use current::Current;
pub use error::TlsError;
pub use keys::{AuthClients, Files, Keys, KeysError, Settings};
pub use stream::Stream;
pub use validity::Validity;

/// The first bytes of a TLS connection, as one end or the other says them: a handshake, or an alert.
#[must_use]
pub fn begins_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16] | [0x15 | 0x16, 0x03, ..])
}

#[cfg(test)]
pub mod tests;
