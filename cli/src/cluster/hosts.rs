//! Files of hosts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use strandline_host_timely::{Cluster, Processes};

use super::Member;
use crate::Failure;

/// The secret of the cluster, where the file of hosts names no file with it.
const TOKEN: &str = "STRANDLINE_CLUSTER_TOKEN";
/// How long hosts wait for each other: somebody starts them one by one.
const JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// The hosts that run a job: the same file on all of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hosts {
    /// How many workers each of them has.
    #[serde(default = "one")]
    workers: u32,
    /// A file with the secret of the cluster, beside this one.
    token_file: Option<PathBuf>,
    /// How long they wait for each other at the beginning of an attempt.
    #[serde(default, deserialize_with = "duration")]
    join_timeout: Option<Duration>,
    /// How long one may be silent before it counts as lost.
    #[serde(default, deserialize_with = "duration")]
    silence: Option<Duration>,
    host: Vec<Host>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    name: String,
    /// Where the others reach it, as `host:port`.
    address: String,
}

fn one() -> u32 {
    1
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// The part of the host `name` in the cluster that `file` describes.
pub(super) fn member(file: &Path, name: Option<&str>) -> Result<Member, Failure> {
    let usage = |text: String| Failure::Usage(format!("error: {}: {text}\n", file.display()));
    let text = fs::read_to_string(file).map_err(|error| usage(error.to_string()))?;
    let hosts: Hosts = toml::from_str(&text).map_err(|error| usage(error.to_string()))?;
    let names: Vec<_> = hosts.host.iter().map(|host| host.name.as_str()).collect();
    if names.is_empty() || hosts.workers == 0 {
        return Err(usage("a cluster needs at least one [[host]] and one worker".into()));
    }
    for (number, name) in names.iter().enumerate() {
        if names[..number].contains(name) {
            return Err(usage(format!("two hosts have the name {name:?}")));
        }
    }
    let known = names.join(", ");
    let Some(name) = name else {
        return Err(usage(format!("to choose this host, add `--host NAME`, one of: {known}")));
    };
    let Some(process) = names.iter().position(|other| *other == name) else {
        return Err(usage(format!("there is no host {name:?}; there are: {known}")));
    };
    let token = match &hosts.token_file {
        Some(of_token) => {
            let path = file.parent().unwrap_or(Path::new("")).join(of_token);
            let read = fs::read_to_string(&path);
            read.map_err(|error| usage(format!("the token file {} cannot be read: {error}", path.display())))?
        }
        None => std::env::var(TOKEN).unwrap_or_default(),
    };
    let token = token.trim();
    if token.is_empty() {
        return Err(usage(format!(
            "a cluster needs a secret that all its hosts have: name a file with it as `token_file`, or set {TOKEN}"
        )));
    }
    let addresses: Vec<_> = hosts.host.iter().map(|host| host.address.clone()).collect();
    let first = format!("{} ({})", names[0], addresses[0]);
    let mut processes = Processes::new(addresses, process as u32, token)
        .join_timeout(hosts.join_timeout.unwrap_or(JOIN_TIMEOUT));
    if let Some(silence) = hosts.silence {
        processes = processes.silence(silence);
    }
    let cluster = Cluster::of_processes(hosts.workers, processes);
    Ok(Member { cluster, process: process as u32, starts: false, first })
}
