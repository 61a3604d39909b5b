//! Many connections that have nothing to say.

use std::io::Read;

use anyhow::Result;
use segue_bench::peers::proxy::Proxy;

use crate::backend::{self, Service};
use crate::results::{Metric, Sample};

const WARM_LINKS: u64 = 100;

/// What an idle connection costs the process. `proxy` is fresh: what an earlier crowd left would hide it.
pub fn idle(proxy: &Proxy, links: u64) -> Result<Vec<Sample>> {
    if proxy.pid().is_none() {
        return Ok(Vec::new());
    }
    let open = |count: u64| -> Result<Vec<_>> {
        (0..count)
            .map(|_| {
                let mut stream = backend::ask(proxy.ports.tool, Service::Hold)?;
                stream.read_exact(&mut [0])?;
                Ok(stream)
            })
            .collect()
    };
    let _warm = open(WARM_LINKS)?;
    let before_bytes = proxy.resident_bytes()?;
    let _links = open(links)?;
    let grown_bytes = proxy.resident_bytes()?.saturating_sub(before_bytes);
    Ok(vec![Sample(Metric::IdleLinkBytes, grown_bytes as f64 / links as f64)])
}
