//! How much memory this process may still take: what the machine has, and what a container or `ulimit -v` allows.

use rustix::process::{Resource, getrlimit};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the system shows its control groups.
const GROUPS: &str = "/sys/fs/cgroup";
/// Addresses that threads reserve for their stacks and allocators without using the memory. `ulimit -v` counts them.
const RESERVED: u64 = 256 << 20;

/// Memory that is free for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeMemory {
    pub bytes: u64,
    /// What allows no more, for people.
    pub limit: &'static str,
}

/// Returns the memory that is free for this process, or `None` if the system doesn't say. Swap doesn't count, as
/// training from it is of no use; neither does what the system's caches can give back.
pub fn free() -> Option<FreeMemory> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let machine = kibibytes(&read("/proc/meminfo"), "MemAvailable:");
    let group = in_groups(Path::new(GROUPS), &read("/proc/self/cgroup"));
    let taken = kibibytes(&read("/proc/self/status"), "VmSize:").unwrap_or(0);
    let allowed = getrlimit(Resource::As).current;
    let allowed = allowed.map(|limit| limit.saturating_sub(taken.saturating_add(RESERVED)));
    let found = [
        (machine, "on this machine"),
        (group, "under the container's limit"),
        (allowed, "under ulimit -v"),
    ];
    let known = found.into_iter().filter_map(|(bytes, limit)| Some((bytes?, limit)));
    known.min_by_key(|&(bytes, _)| bytes).map(|(bytes, limit)| FreeMemory { bytes, limit })
}

/// Returns a value of `/proc/meminfo` or `/proc/PID/status` in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The names that a version of control groups has for the same figures.
struct GroupFiles {
    limit: &'static str,
    used: &'static str,
    /// What of `used` is a cache that can be given back, in `memory.stat`.
    cache: &'static str,
}

/// Version 2, then version 1.
const VERSIONS: [GroupFiles; 2] = [
    GroupFiles { limit: "memory.max", used: "memory.current", cache: "inactive_file" },
    GroupFiles {
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        cache: "total_inactive_file",
    },
];

/// Returns what the groups of a process leave free. `own` is its `/proc/self/cgroup`. A group is bound by the limits of
/// all groups that it is in.
fn in_groups(mount: &Path, own: &str) -> Option<u64> {
    let group = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = Path::new(path).strip_prefix("/").ok()?.to_owned();
        match controllers {
            "" => Some((mount.to_owned(), path, &VERSIONS[0])),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Some((mount.join("memory"), path, &VERSIONS[1]))
            }
            _ => None,
        }
    };
    let mut least: Option<u64> = None;
    for (mount, path, files) in own.lines().filter_map(group) {
        let folders: Vec<PathBuf> = path.ancestors().map(|part| mount.join(part)).collect();
        let free = folders.iter().filter_map(|folder| in_group(folder, files)).min();
        least = least.into_iter().chain(free).min();
    }
    least
}

/// Returns what a group leaves free, or `None` if it has no limit.
fn in_group(folder: &Path, files: &GroupFiles) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let limit = number(files.limit)?; // the word "max" is no limit
    let used = number(files.used).unwrap_or(0);
    let stat = read("memory.stat").unwrap_or_default();
    let cache = stat.lines().find_map(|line| line.strip_prefix(files.cache)?.trim().parse().ok());
    Some(limit.saturating_sub(used.saturating_sub(cache.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a group with its limit, use and cache.
    fn group(folder: &Path, files: &GroupFiles, figures: [&str; 3]) {
        fs::create_dir_all(folder).expect("writable");
        let [limit, used, cache] = figures;
        let stat = format!("anon 5\n{} {cache}\n", files.cache);
        for (name, text) in [(files.limit, limit), (files.used, used), ("memory.stat", &stat)] {
            fs::write(folder.join(name), format!("{text}\n")).expect("writable");
        }
    }

    #[test]
    fn the_narrowest_of_all_groups_counts() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let mount = temp.path();
        let [new, old] = &VERSIONS;
        group(&mount.join("pod"), new, ["1000", "300", "100"]);
        group(&mount.join("pod/task"), new, ["max", "250", "0"]);
        assert_eq!(in_groups(mount, "0::/pod/task\n"), Some(800));
        assert_eq!(in_groups(mount, "0::/pod/gone\n"), Some(800), "a group that is not mounted");
        assert_eq!(in_groups(mount, "0::/\n"), None, "no limit");
        group(mount, new, ["600", "0", "0"]);
        assert_eq!(in_groups(mount, "0::/pod/task\n"), Some(600));
        group(&mount.join("memory/job"), old, ["500", "700", "0"]);
        assert_eq!(in_groups(mount, "4:cpu,memory:/job\n0::/pod\n"), Some(0), "more than allowed");
        assert_eq!(in_groups(mount, "4:cpu:/job\nnonsense\n"), None);
    }

    #[test]
    fn this_machine_says_what_is_free() {
        let free = free().expect("Linux says it");
        assert!(free.bytes > 1 << 20, "{free:?}");
        assert_eq!(kibibytes("A: 1 kB\nMemAvailable:   2 kB\n", "MemAvailable:"), Some(2048));
    }
}
