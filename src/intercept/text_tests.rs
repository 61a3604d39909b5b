use std::path::Path;

use super::*;
use crate::config::{Config, KnownProtocol};

fn plan(intercept: &str) -> Plan {
    plan_that("open", intercept)
}

fn plan_that(on_failure: &str, intercept: &str) -> Plan {
    let text = format!(
        r#"
        [node]
        id = "n1"
        protocol = "redis"
        store = "127.0.0.1:6379"
        [[peer]]
        id = "n2"
        store = "10.77.0.2:6379"
        [[peer]]
        id = "n3"
        store = "[fd77::3]:6380"
        [intercept]
        on_failure = "{on_failure}"
        {intercept}
        "#
    );
    let redis = [KnownProtocol { name: "redis", releases: &[], bus_port_offset: Some(10_000) }];
    let config = Config::parse(Path::new("segue.toml"), &text, &redis).unwrap();
    Plan::of(&config).unwrap()
}

#[test]
fn redirect_of_both_families() {
    let plan = plan(
        "mode = \"redirect\"\nstore_user = \"redis\"\nexclude = [\"10.0.0.0/8\", \"fd00::/8\", \"10.1.0.0/16\"]",
    );
    assert_eq!(
        plan.ruleset(),
        r#"table inet segue_n1
delete table inet segue_n1
table inet segue_n1 {
	chain inbound {
		type nat hook prerouting priority dstnat; policy accept;
		ip saddr 10.0.0.0/8 counter accept comment "inbound exclude 10.0.0.0/8"
		ip6 saddr fd00::/8 counter accept comment "inbound exclude fd00::/8"
		ip saddr 10.1.0.0/16 counter accept comment "inbound exclude 10.1.0.0/16"
		meta nfproto ipv4 tcp dport { 6379 } fib daddr type local counter redirect to :15001 comment "inbound ipv4"
		meta nfproto ipv6 tcp dport { 6379 } fib daddr type local counter redirect to :15001 comment "inbound ipv6"
	}
	chain outbound {
		type nat hook output priority -100; policy accept;
		meta mark 0x6d counter accept comment "outbound ours"
		ip daddr 10.0.0.0/8 counter accept comment "outbound exclude 10.0.0.0/8"
		ip6 daddr fd00::/8 counter accept comment "outbound exclude fd00::/8"
		ip daddr 10.1.0.0/16 counter accept comment "outbound exclude 10.1.0.0/16"
		meta nfproto ipv4 meta skuid "redis" tcp dport { 6379, 6380 } counter redirect to :15002 comment "outbound ipv4"
		meta nfproto ipv6 meta skuid "redis" tcp dport { 6379, 6380 } counter redirect to :15002 comment "outbound ipv6"
	}
}
"#
    );
    assert_eq!(plan.removal(), "table inet segue_n1\ndelete table inet segue_n1\n");
    assert_eq!(plan.routes(), Vec::<Vec<String>>::new());
}

#[test]
fn tproxy_of_one_family_closed() {
    let plan = plan_that(
        "closed",
        "mode = \"tproxy\"\nipv6 = false\nstore_user = \"999\"\nmark = 256\ninbound_listen_port = 7001\n\
         exclude = [\"fd00::/8\"]",
    );
    assert_eq!(
        plan.ruleset(),
        r#"table inet segue_n1
delete table inet segue_n1
table inet segue_n1 {
	chain inbound {
		type filter hook prerouting priority mangle; policy accept;
		iifname "lo" counter accept comment "inbound loopback"
		meta nfproto ipv4 tcp dport { 6379 } fib daddr type local counter tproxy ip to :7001 meta mark set 0x101 accept comment "inbound ipv4"
		meta nfproto ipv4 tcp dport { 6379 } fib daddr type local tcp flags & (fin | syn | rst | ack) == syn counter reject with tcp reset comment "inbound closed ipv4"
	}
	chain answers {
		type route hook output priority mangle; policy accept;
		meta mark 0x100 fib saddr type != local ct mark set 0x101 accept
		ct mark 0x101 meta mark set 0x101 accept
	}
	chain outbound {
		type nat hook output priority -100; policy accept;
		meta mark 0x100 counter accept comment "outbound ours"
		meta nfproto ipv4 meta skuid 999 tcp dport { 6379, 6380 } counter redirect to :15002 comment "outbound ipv4"
	}
}
"#
    );
    let routes: Vec<String> = plan.routes().iter().map(|words| words.join(" ")).collect();
    assert_eq!(
        routes,
        ["-4 route add local 0.0.0.0/0 dev lo table 257", "-4 rule add pref 110 fwmark 0x101 lookup 257"]
    );
    let removals: Vec<String> = plan.route_removals().iter().map(|words| words.join(" ")).collect();
    assert_eq!(
        removals,
        ["-4 rule del pref 110 fwmark 0x101 lookup 257", "-4 route del local 0.0.0.0/0 dev lo table 257"]
    );
}

#[test]
fn a_bus_has_rules_of_its_own() {
    let plan = plan_that("closed", "mode = \"tproxy\"\nipv6 = false\nstore_user = \"redis\"\nbus = true");
    let rules = plan.ruleset();
    let names = |rules: Vec<Rule>| rules.into_iter().map(|rule| rule.name).collect::<Vec<_>>();
    let inbound = ["loopback", "ipv4", "closed ipv4", "bus ipv4", "bus closed ipv4"]
        .map(|name| format!("inbound {name}"));
    assert_eq!(names(plan.inbound), inbound);
    assert_eq!(names(plan.outbound), ["outbound ours", "outbound ipv4", "outbound bus ipv4"]);
    let inbound = "tcp dport { 16379 } fib daddr type local counter tproxy ip to :15001";
    let outbound = "meta skuid \"redis\" tcp dport { 16379, 16380 } counter redirect to :15002";
    assert!(rules.contains(inbound) && rules.contains(outbound), "{rules}");
}

#[test]
fn an_open_tproxy_refuses_nothing() {
    let text = "mode = \"tproxy\"\nstore_user = \"redis\"";
    let names = |plan: Plan| plan.inbound.into_iter().map(|rule| rule.name).collect::<Vec<_>>();
    assert_eq!(names(plan(text)), ["inbound loopback", "inbound ipv4", "inbound ipv6"]);
}

#[test]
fn a_store_may_be_told_by_its_cgroup() {
    let plan = plan("mode = \"redirect\"\nipv6 = false\nstore_cgroup = \"system.slice/redis.service\"");
    assert!(
        plan.ruleset().contains(
            "meta nfproto ipv4 socket cgroupv2 level 2 \"system.slice/redis.service\" tcp dport { 6379, 6380 } \
             counter redirect to :15002"
        ),
        "{}",
        plan.ruleset()
    );
}

#[test]
fn a_store_that_dials_nobody_has_no_outbound_rules() {
    let plan = plan("mode = \"redirect\"\noutbound_ports = []\ninbound_ports = [7000, 6379, 7000]");
    assert!(!plan.ruleset().contains("outbound"), "{}", plan.ruleset());
    assert!(plan.ruleset().contains("iifname \"lo\" counter accept"), "{}", plan.ruleset());
    assert!(plan.ruleset().contains("tcp dport { 6379, 7000 }"), "{}", plan.ruleset());
}
