//! Rules put in place, proved and taken away.

use std::process::Command;

use anyhow::{Result, ensure};
use segue_bench::{netns::Host, sidecar::Sidecar};

use crate::lab;

/// One peer that is left out and one that is not, of each family.
const MORE_PEERS: &str = r#"
[[peer]]
id = "n3"
store = "10.77.0.9:6379"
[[peer]]
id = "n4"
store = "[fd77::9]:6379"
"#;
const INTERCEPT: &str = "exclude = [\"10.77.0.0/30\", \"192.0.2.0/24\", \"fd77:1::/32\"]\nbus = true";

#[test]
fn rules_are_installed_proved_and_removed_each_twice() -> Result<()> {
    for mode in ["redirect", "tproxy"] {
        let Some(network) = lab::network(2)? else { return Ok(()) };
        let [n1, n2] = &network.hosts[..] else { unreachable!("two hosts were asked for") };
        for (flag, gateway) in [("-4", n2.ipv4()), ("-6", n2.ipv6())] {
            n1.output(Command::new("ip").args([flag, "route", "add", "default", "via", &gateway]))?;
        }
        let before = lab::traces(n1)?;
        let config = lab::config(mode, "closed", &format!("{}:6379", n2.ipv4()), INTERCEPT) + MORE_PEERS;
        let mut sidecar = lab::sidecar(n1, &config)?;
        let installed = lab::traces(n1)?;
        ensure!(installed.contains("table inet segue_n1 {"), "{installed}");
        lab::segue(n1, &sidecar, "install")?;

        let closing = if mode == "tproxy" { 4 } else { 0 };
        all_proved(n1, &sidecar, closing)?;
        sidecar.kill9()?;
        // Now those that close it are needed.
        all_proved(n1, &sidecar, 0)?;
        a_missing_rule_is_named(n1, &sidecar)?;

        lab::segue(n1, &sidecar, "remove")?;
        ensure!(lab::traces(n1)? == before, "{mode}: traces are left:\n{}", lab::traces(n1)?);
        lab::segue(n1, &sidecar, "remove")?;
        let (proved, said) = lab::verify(n1, &sidecar)?;
        ensure!(!proved && !said.contains("\nproved"), "nothing is in place:\n{said}");
    }
    Ok(())
}

fn all_proved(host: &Host, sidecar: &Sidecar, stand_by: usize) -> Result<()> {
    let (proved, said) = lab::verify(host, sidecar)?;
    let count = |what: &str| said.lines().filter(|line| line.starts_with(what)).count();
    ensure!(proved && count("NOT") == 0 && count("stands by") == stand_by, "{said}");
    for way in ["inbound", "inbound bus", "outbound", "outbound bus"] {
        for rule in ["ipv4", "ipv6"].map(|family| format!("{way} {family}")) {
            ensure!(said.contains(&format!("proved      {rule}\n")), "{rule}:\n{said}");
        }
    }
    ensure!(said.contains("proved      outbound ours\n"), "{said}");
    // Each range in both directions.
    ensure!(said.matches("exclude").count() == 6, "{said}");
    Ok(())
}

/// A foreign rule takes what is meant for the rule of IPv6.
fn a_missing_rule_is_named(host: &Host, sidecar: &Sidecar) -> Result<()> {
    let shadow = ["insert", "rule", "inet", "segue_n1", "outbound", "ip6", "daddr", "fd77::9", "accept"];
    host.output(Command::new("nft").args(shadow))?;
    let (proved, said) = lab::verify(host, sidecar)?;
    let failed: Vec<_> = said.lines().filter(|line| line.starts_with("NOT PROVED")).collect();
    let expected = [("outbound ipv6", 6379), ("outbound bus ipv6", 16379)]
        .map(|(rule, port)| format!("NOT PROVED  {rule}: a connection to [fd77::9]:{port} did not reach it"));
    ensure!(!proved && failed == expected, "{said}");
    Ok(())
}
