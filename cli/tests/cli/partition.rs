//! A job on three hosts of a network of their own, of which one is cut off for a while.
//!
//! `cargo nextest run -p strandline-cli --features timely --run-ignored only -E 'test(=partition::a_host_that_is_cut_off_comes_back)'`
//! as root, with iproute2.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::support::{Folder, ORDERS_JOB, Orders, Running, assert_same};

/// How long the host is cut off.
const CUT_OFF: Duration = Duration::from_secs(30);
const HOSTS: [&str; 3] = ["a", "b", "c"];

fn ip(args: &str) {
    let done = Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(done.success(), "ip {args}: {done}");
}

/// Three hosts with addresses of their own, which a bridge connects; gone when it is dropped.
struct Network(String);

impl Network {
    fn new() -> Self {
        let network = Self(format!("sl{:x}", std::process::id()));
        let name = &network.0;
        ip(&format!("link add {name} type bridge"));
        ip(&format!("link set {name} up"));
        for (host, number) in HOSTS.iter().zip(1..) {
            ip(&format!("netns add {name}{host}"));
            ip(&format!("link add {name}{host} type veth peer name eth0 netns {name}{host}"));
            ip(&format!("link set {name}{host} master {name} up"));
            ip(&format!("-n {name}{host} address add 10.77.0.{number}/24 dev eth0"));
            ip(&format!("-n {name}{host} link set eth0 up"));
            ip(&format!("-n {name}{host} link set lo up"));
        }
        network
    }

    fn connect(&self, host: &str, is_connected: bool) {
        ip(&format!("link set {}{host} {}", self.0, if is_connected { "up" } else { "down" }));
    }

    /// The command, run on a host.
    fn on(&self, host: &str, command: &Command) -> Command {
        let mut there = Command::new("ip");
        there.args(["netns", "exec", &format!("{}{host}", self.0)]).arg(command.get_program());
        there.args(command.get_args());
        if let Some(directory) = command.get_current_dir() {
            there.current_dir(directory);
        }
        there
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in HOSTS {
            let _ = Command::new("ip").args(["netns", "delete", &format!("{}{host}", self.0)]).status();
        }
        let _ = Command::new("ip").args(["link", "delete", &self.0]).status();
    }
}

#[test]
#[ignore = "makes network namespaces: needs root and iproute2, and a minute"]
fn a_host_that_is_cut_off_comes_back() {
    let (orders, folder) = (Orders::new(60_000, 17), Folder::new(ORDERS_JOB));
    folder.write("orders.csv", &orders.csv);
    folder.write("token", "secret\n");
    let hosts: Vec<_> = HOSTS
        .iter()
        .zip(1..)
        .map(|(name, number)| format!("[[host]]\nname = \"{name}\"\naddress = \"10.77.0.{number}:4000\"\n"))
        .collect();
    let settings = "token_file = \"token\"\nsilence = \"3s\"\n";
    folder.write("hosts.toml", &format!("{settings}{}", hosts.concat()));
    let network = Network::new();
    let command = |host: &str| {
        let host_argument = format!("--host={host}");
        let arguments = [
            "run",
            "job.toml",
            "--set=source.rate=4000",
            "--hosts=hosts.toml",
            &host_argument,
            "--progress=json",
        ];
        network.on(host, &folder.command(&[&arguments[..], &["--json"]].concat()))
    };
    let mut others: Vec<_> = HOSTS[1..]
        .iter()
        .map(|host| command(host).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    let mut first = Running::start(command(HOSTS[0]));
    first.wait_for_checkpoints(3);
    network.connect("c", false);
    sleep(CUT_OFF);
    network.connect("c", true);
    first.wait_for("the next attempt", |event| event["event"] == "started");
    first.wait_for_checkpoints(1);
    let (code, report) = first.end();
    assert_eq!((code, &report["records"]), (0, &60_000.into()), "{report}");
    assert!(report["restarts"].as_u64() >= Some(1), "{report}");
    for other in &mut others {
        assert!(other.wait().unwrap().success(), "it has heard that the job is over");
    }
    assert_same(&folder.results("results"), &orders.sums, "after the partition");
}
