//! Jobs in several processes: those that the first one starts and starts again, and hosts that find each other.

use std::process::{Command, Stdio};

use crate::support::{Folder, ORDERS_JOB, Orders, assert_same};

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let listed = Command::new("ps").args(["-o", "pid=", "--ppid", &parent.to_string()]).output().unwrap();
    String::from_utf8(listed.stdout).unwrap().lines().filter_map(|pid| pid.trim().parse().ok()).collect()
}

fn orders_job(count: i64) -> (Folder, Orders) {
    let (orders, folder) = (Orders::new(count, 17), Folder::new(ORDERS_JOB));
    folder.write("orders.csv", &orders.csv);
    (folder, orders)
}

#[test]
fn several_processes_compute_what_one_does_and_report_what_all_did() {
    let (folder, orders) = orders_job(20_000);
    let report = folder.run(&["--processes=3"]);
    assert_same(&folder.results("results"), &orders.sums, "on three processes");
    assert_eq!((&report["outcome"], &report["records"]), (&"finished".into(), &20_000.into()), "{report}");
    assert_eq!(report["emitted"]["sink"], orders.sums.len(), "{report}");
    assert_eq!(folder.run(&["--processes=2", "--workers=2"])["outcome"], "already-finished");
}

/// Each dies and comes back while the job runs; it is stopped, and goes on in another number of processes, and in
/// threads.
#[test]
fn processes_that_die_are_started_again_and_the_job_is_exact() {
    let (folder, orders) = orders_job(40_000);
    let slow = "--set=source.rate=10000";
    let mut running = folder.start(&["--processes=3", slow]);
    for _ in 0..3 {
        running.wait_for_checkpoints(2);
        let of_job = children(running.id());
        assert_eq!(of_job.len(), 2, "one less than there are processes");
        for victim in of_job {
            assert!(Command::new("kill").args(["-9", &victim.to_string()]).status().unwrap().success());
        }
        running.wait_for("the end of a process", |event| event["event"] == "process-ended");
        running.wait_for("the next attempt", |event| event["event"] == "started");
    }
    running.wait_for_checkpoints(1);
    running.interrupt();
    let (code, report) = running.end();
    assert_eq!((code, &report["outcome"]), (0, &"stopped".into()), "{report}");
    assert!(report["restarts"].as_u64() >= Some(3), "{report}");

    let mut running = folder.start(&["--processes=2", slow]);
    running.wait_for_checkpoints(1);
    let of_job = children(running.id());
    running.kill();
    // They notice that nobody is left to whom they belong.
    for child in of_job {
        while std::path::Path::new(&format!("/proc/{child}")).exists() {
            std::thread::yield_now();
        }
    }
    assert_eq!(folder.run(&["--parallelism=2"])["outcome"], "finished");
    assert_same(&folder.results("results"), &orders.sums, "after all of it");
}

#[test]
fn hosts_find_each_other_and_wait_for_those_that_leave() {
    let (folder, orders) = orders_job(20_000);
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [a, b] = listeners.map(|listener| listener.local_addr().unwrap());
    let host = |name: &str, address| format!("[[host]]\nname = \"{name}\"\naddress = \"{address}\"\n");
    let hosts = format!("token_file = \"token\"\nworkers = 2\n{}{}", host("a", a), host("b", b));
    folder.write("hosts.toml", &hosts);
    folder.write("token", "secret\n");
    let slow = "--set=source.rate=10000";
    let start = |name: &str| {
        let mut command =
            folder.command(&["run", "job.toml", slow, "--hosts=hosts.toml", name, "--progress=none"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut second = start("--host=b");
    let mut first = folder.start(&[slow, "--hosts=hosts.toml", "--host=a"]);
    first.wait_for_checkpoints(2);
    second.kill().unwrap();
    second.wait().unwrap();
    let mut second = start("--host=b");
    first.wait_for("the next attempt", |event| event["event"] == "started");
    let (code, report) = first.end();
    assert_eq!((code, &report["records"]), (0, &20_000.into()), "{report}");
    assert!(second.wait().unwrap().success(), "it has heard that the job is over");
    assert_same(&folder.results("results"), &orders.sums, "on two hosts");
}

#[test]
fn what_cannot_be_a_cluster_is_refused_with_advice() {
    let folder = Folder::new(ORDERS_JOB);
    folder.write("orders.csv", "time,user,amount\n");
    let refused = |args: &[&str], why: &str| {
        let ended = folder.strandline(&[&["run", "job.toml"], args].concat());
        assert!(ended.code() == 2 && ended.stderr().contains(why), "{args:?}: {}", ended.stderr());
    };
    refused(&["--processes=2", "--parallelism=2"], "cannot be used with");
    refused(&["--workers=2"], "--processes");
    refused(&["--hosts=missing.toml", "--host=a"], "missing.toml");
    folder.write("hosts.toml", "[[host]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n");
    refused(&["--hosts=hosts.toml"], "add `--host NAME`, one of: a");
    refused(&["--hosts=hosts.toml", "--host=c"], "there is no host \"c\"; there are: a");
    refused(&["--hosts=hosts.toml", "--host=a"], "STRANDLINE_CLUSTER_TOKEN");
    folder.write("hosts.toml", "worker = 1\n[[host]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n");
    refused(&["--hosts=hosts.toml", "--host=a"], "unknown field `worker`");
}
