use super::*;

const FILE: &str = include_str!("../../../config/intercept.toml");

fn with(from: &str, to: &str) -> String {
    assert!(FILE.contains(from), "the example has no {from:?}");
    FILE.replacen(from, to, 1)
}

#[test]
fn the_example_is_complete_and_needs_no_link() {
    let config = parse(FILE).unwrap();
    assert!(config.links.is_empty());
    let intercept = config.intercept.unwrap();
    let expected = Intercept {
        mode: InterceptMode::Redirect,
        inbound_listen_port: 15001,
        outbound_listen_port: 15002,
        inbound_ports: vec![6379],
        outbound_ports: vec![6379],
        plain_ports: Vec::new(),
        inbound_bus_ports: Vec::new(),
        outbound_bus_ports: Vec::new(),
        store: Some(StoreProcess::User("redis".to_owned())),
        exclude: Vec::new(),
        ipv4: true,
        ipv6: true,
        mark: 0x6d,
        on_failure: OnFailure::Open,
    };
    assert_eq!(intercept, expected);
}

#[test]
fn commented_keys_have_their_defaults() {
    let mut text = with("#store_cgroup", "# store_cgroup").replace("\n#exclude", "\n# exclude");
    let defaults = parse(&text).unwrap();
    for key in ["inbound_", "outbound_", "plain_", "ipv", "mark"] {
        text = text.replace(&format!("\n#{key}"), &format!("\n{key}"));
    }
    assert_eq!(parse(&text).unwrap(), defaults);
}

#[test]
fn the_bus_is_intercepted_on_its_own_ports() {
    let text = with("#bus = false", "bus = true").replace("10.0.0.2:6379\"", "10.0.0.2:6379\"\nbus_port = 7");
    let ports = |text: &str| {
        let intercept = parse(text).unwrap().intercept.unwrap();
        (intercept.inbound_bus_ports, intercept.outbound_bus_ports)
    };
    assert_eq!(ports(&text), (vec![16379], vec![7]));
    assert_eq!(
        ports(&text.replace("#outbound_ports = [6379]", "outbound_ports = []")),
        (vec![16379], vec![])
    );
}

#[test]
fn what_can_not_work_is_refused() {
    let refused = |text: &str, message: &str| {
        let error = parse(text).expect_err("the config was accepted").to_string();
        assert!(error.contains(message), "{error}");
    };
    refused(&with("store_user = \"redis\"", ""), "[intercept] store_user: it is missing; expected the user");
    refused(&with("#store_cgroup", "store_cgroup"), "[intercept] store_cgroup: there is a store_user, too");
    refused(&with("\"redirect\" ", "\"magic\" "), "expected \"redirect\" or \"tproxy\"");
    refused(
        &with("#inbound_listen_port = 15001", "inbound_listen_port = 15002"),
        "give each direction its own",
    );
    refused(&with("#inbound_listen_port = 15001", "inbound_listen_port = 6379"), "a loop");
    refused(&with("#inbound_listen_port = 15001", "inbound_listen_port = 9901"), "already used by");
    let with_bus = |from: &str, to: &str| with(from, to).replace("#bus = false", "bus = true");
    refused(&with_bus("#inbound_ports = [6379]", "inbound_ports = [6379, 16379]"), "bus = true sees to it");
    refused(&with_bus("#inbound_listen_port = 15001", "inbound_listen_port = 16379"), "a loop");
    refused(
        &with("#inbound_ports = [6379]", "inbound_ports = [0]"),
        "expected an array of ports from 1 to 65535",
    );
    refused(&with("#exclude = [\"10.9.0.0/16\"", "exclude = [\"10.9.0.1/16\""), "expected \"10.9.0.0/16\"");
    refused(&with("#mark = 0x6d", "mark = 254"), "the kernel's own routing tables");
    refused(
        &with("#ipv4 = true\n#ipv6 = true", "ipv4 = false\nipv6 = false"),
        "there is nothing to intercept",
    );
    refused(&with("#ipv4 = true", "ipv4 = 1"), "expected true or false; found a whole number");
}
