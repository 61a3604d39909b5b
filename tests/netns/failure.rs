//! The sidecar is killed: links go on without it, or stay shut, as the config says.

use std::{io, net::TcpStream, time::Duration};

use anyhow::{Context, Result, ensure};
use segue_bench::{child::wait_for, netns::Host};

use crate::lab;

const DIAL_TIME_MAX: Duration = Duration::from_secs(20);

fn dial(from: &Host, to: &Host) -> Result<io::ErrorKind, anyhow::Error> {
    let address = format!("{}:{}", to.ipv4(), lab::STORE_PORT).parse()?;
    from.enter(|| match TcpStream::connect_timeout(&address, DIAL_TIME_MAX) {
        Ok(_) => anyhow::bail!("connected"),
        Err(error) => Ok(error.kind()),
    })
}

#[test]
fn open_lets_equal_releases_link_when_the_sidecar_is_killed() -> Result<()> {
    for mode in ["redirect", "tproxy"] {
        let Some(network) = lab::network(2)? else { return Ok(()) };
        let [n1, n2] = &network.hosts[..] else { unreachable!("two hosts were asked for") };
        let (master, replica) = (lab::store(n1, "redis-8.0")?, lab::store(n2, "redis-8.0")?);
        lab::fill(n1, &master)?;
        let before = lab::traces(n1)?;
        let config = lab::config(mode, "open", &format!("{}:6379", n2.ipv4()), "");
        let mut sidecar = lab::sidecar(n1, &config)?;
        lab::follow(n2, &replica, &n1.ipv4())?;
        lab::await_link_up(n2, &replica, || lab::tail(&sidecar.log_text()))?;
        lab::replication_link(n1, &sidecar).with_context(|| format!("{mode}: not intercepted"))?;

        sidecar.kill9()?;
        let gone = wait_for(lab::SYNC_TIME_MAX, || Ok((lab::traces(n1)? == before).then_some(())))?;
        gone.with_context(|| format!("{mode}: the rules stay\n{}", lab::tail(&sidecar.log_text())))?;
        let mut client = n1.enter(|| master.client())?;
        redis::cmd("SET").arg("after").arg("the kill").exec(&mut client)?;
        let arrived = wait_for(lab::SYNC_TIME_MAX, || {
            let mut client = n2.enter(|| replica.client())?;
            // It may be reading a snapshot.
            Ok(redis::cmd("GET").arg("after").query::<Option<String>>(&mut client).ok().flatten())
        })?;
        ensure!(arrived.as_deref() == Some("the kill"), "{mode}: the link does not go on: {arrived:?}");
        lab::await_link_up(n2, &replica, String::new)?;
    }
    Ok(())
}

#[test]
fn closed_keeps_links_shut_when_the_sidecar_is_killed() -> Result<()> {
    for mode in ["redirect", "tproxy"] {
        let Some(network) = lab::network(2)? else { return Ok(()) };
        let [n1, n2] = &network.hosts[..] else { unreachable!("two hosts were asked for") };
        let (one, two) = (lab::store(n1, "redis-8.0")?, lab::store(n2, "redis-8.0")?);
        let before = lab::traces(n1)?;
        let config = lab::config(mode, "closed", &format!("{}:6379", n2.ipv4()), "");
        let mut sidecar = lab::sidecar(n1, &config)?;
        lab::follow(n2, &two, &n1.ipv4())?;
        lab::await_link_up(n2, &two, || lab::tail(&sidecar.log_text()))?;

        sidecar.kill9()?;
        ensure!(dial(n2, n1)? == io::ErrorKind::ConnectionRefused, "{mode}: inbound is not refused");
        // The own store's dials are refused, too.
        lab::follow(n1, &one, &n2.ipv4())?;
        let refused = || one.log_text().contains("Connection refused");
        wait_for(lab::SYNC_TIME_MAX, || Ok(refused().then_some(())))?
            .with_context(|| format!("{mode}: outbound is not refused\n{}", lab::tail(&one.log_text())))?;
        let info = n2.enter(|| two.info("replication"))?;
        ensure!(info.get("master_link_status") == Some("down"), "{mode}: a link without the sidecar");

        // The stop hook leaves them, too; only the operator's word opens.
        lab::segue(n1, &sidecar, "remove --if-open")?;
        ensure!(dial(n2, n1)? == io::ErrorKind::ConnectionRefused, "{mode}: the stop hook opened");
        n1.enter(|| sidecar.restart())?;
        lab::segue(n1, &sidecar, "remove")?;
        let after = lab::traces(n1)?;
        ensure!(after == before, "{mode}: traces are left:\n{after}\nbefore:\n{before}");
    }
    Ok(())
}
