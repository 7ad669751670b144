//! How much memory the process may use, as far as the machine and its control group tell.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of memory: the least of what the machine has and what the control groups allow. None where the kernel does not
/// say (`proc_meminfo(5)`, `cgroups(7)`).
pub(crate) fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups, Path::new("/sys/fs/cgroup")).into_iter().filter_map(|file| {
        // "max" is no number, and no limit.
        fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    machine.into_iter().chain(limits).min()
}

/// MemTotal of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The files with a memory limit of the control groups that /proc/self/cgroup names, and of those around them.
fn limit_files(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        // Version 2 is `0::PATH`, version 1 is `N:memory:PATH`.
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next(), fields.next(), fields.next());
        let (top, name) = match controllers {
            Some("") => (root.to_owned(), "memory.max"),
            Some(list) if list.split(',').any(|one| one == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            Some(_) | None => continue,
        };
        let group = top.join(path.unwrap_or_default().trim_start_matches('/'));
        files.extend(group.ancestors().take_while(|folder| folder.starts_with(&top)).map(|folder| folder.join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(total("MemTotal:       24689764 kB\nMemFree:  1 kB\n"), Some(24_689_764 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn limits_of_the_groups_around_count_too() {
        let files = limit_files("0::/system.slice/relay.service\n", Path::new("/cg"));
        let expected = ["/cg/system.slice/relay.service/memory.max", "/cg/system.slice/memory.max", "/cg/memory.max"];
        assert_eq!(files, expected.map(PathBuf::from));
        let files = limit_files("3:cpu,memory:/a\n2:pids:/b\n", Path::new("/cg"));
        let expected = ["/cg/memory/a/memory.limit_in_bytes", "/cg/memory/memory.limit_in_bytes"];
        assert_eq!(files, expected.map(PathBuf::from));
    }
}
