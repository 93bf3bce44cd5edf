//! The CPU quota of the process's control groups, from what `/proc` and the groups' files say. Pure.
//!
//! A process may run on every CPU of its affinity and still get the time of only one and a half: past its
//! quota the kernel stops all of its threads. More shards than that would only stop one another.

/// The tightest quota over a process and the groups above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuQuota {
    /// Thousandths of a CPU.
    pub millicpus: u64,
    /// The file that says so.
    pub file: String,
}

impl CpuQuota {
    /// Returns the number of shards that it is enough for: its whole CPUs, at least one.
    pub fn shards(&self) -> usize {
        usize::try_from(self.millicpus / 1000)
            .unwrap_or(usize::MAX)
            .max(1)
    }

    /// Returns the CPUs, such as `1.5`.
    pub fn cpus(&self) -> String {
        let text = format!("{}.{:03}", self.millicpus / 1000, self.millicpus % 1000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// One folder of a control group, and how its quota is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The folder.
    pub folder: String,
    /// Whether it is of the second version: one file, `cpu.max`.
    pub is_v2: bool,
}

/// Returns the folders of the process's groups that may have a CPU quota, and of those above them as far as
/// they are mounted. `cgroups` is `/proc/self/cgroup`, `mounts` is `/proc/self/mountinfo`.
pub fn groups(cgroups: &str, mounts: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for mount in mounts.lines().filter_map(Mount::parse) {
        let mut paths = cgroups.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let is_it = match mount.is_v2 {
                true => controllers.is_empty(),
                false => controllers.split(',').any(|name| name == "cpu"),
            };
            is_it.then_some(path)
        });
        let Some(path) = paths.next() else { continue };
        // Seen from a container that has the host's view of its own path, the mount begins below the root.
        let below = path.strip_prefix(mount.root.trim_end_matches('/'));
        let below = below.filter(|below| below.is_empty() || below.starts_with('/'));
        let mut below = below.unwrap_or("").trim_end_matches('/');
        if below.split('/').any(|part| part == "..") {
            below = ""; // outside what is mounted
        }
        loop {
            let group = Group {
                folder: format!("{}{below}", mount.point),
                is_v2: mount.is_v2,
            };
            if !groups.contains(&group) {
                groups.push(group);
            }
            match below.rsplit_once('/') {
                Some((above, _)) => below = above,
                None => break,
            }
        }
    }
    groups
}

/// One mounted hierarchy that may have CPU quotas.
struct Mount {
    root: String,
    point: String,
    is_v2: bool,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (own, file_system) = line.split_once(" - ")?;
        let mut own = own.split(' ').skip(3);
        let (root, point) = (own.next()?, own.next()?);
        let mut file_system = file_system.split(' ');
        let is_v2 = match file_system.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let options = file_system.nth(1).unwrap_or("");
        let counts = is_v2 || options.split(',').any(|option| option == "cpu");
        counts.then(|| Self {
            root: unescaped(root),
            point: unescaped(point).trim_end_matches('/').to_owned(),
            is_v2,
        })
    }
}

/// A path of `mountinfo`, where some bytes are written as `\ooo`.
fn unescaped(path: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let replace = |path: String, (from, to): (&str, &str)| path.replace(from, to);
    escapes.into_iter().fold(path.to_owned(), replace)
}

/// Returns thousandths of a CPU by `cpu.max`; `None` is no quota.
pub fn of_v2(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    let quota = words.next()?.parse().ok()?; // `max`
    let period = words
        .next()
        .map_or(Some(PERIOD_US), |word| word.parse().ok())?;
    millicpus(quota, period)
}

/// Returns thousandths of a CPU by `cpu.cfs_quota_us` and `cpu.cfs_period_us`; `None` is no quota.
pub fn of_v1(quota: &str, period: &str) -> Option<u64> {
    let quota = quota.trim().parse().ok()?; // -1
    millicpus(quota, period.trim().parse().ok()?)
}

fn millicpus(quota_us: u64, period_us: u64) -> Option<u64> {
    let wide = u128::from(quota_us) * 1000;
    let millicpus = wide.checked_div(u128::from(period_us))?;
    u64::try_from(millicpus).ok()
}

/// The kernel's own period.
const PERIOD_US: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::{CpuQuota, Group, groups, of_v1, of_v2};

    fn folders(cgroups: &str, mounts: &str) -> Vec<(String, bool)> {
        let parts = |group: Group| (group.folder, group.is_v2);
        groups(cgroups, mounts).into_iter().map(parts).collect()
    }

    fn v2(folders: &[&str]) -> Vec<(String, bool)> {
        folders
            .iter()
            .map(|path| ((*path).to_owned(), true))
            .collect()
    }

    fn v1(folders: &[&str]) -> Vec<(String, bool)> {
        folders
            .iter()
            .map(|path| ((*path).to_owned(), false))
            .collect()
    }

    #[test]
    fn a_quota_is_read_in_both_forms() {
        for (text, want) in [
            ("max 100000\n", None),
            ("max\n", None),
            ("150000 100000\n", Some(1500)),
            ("150000\n", Some(1500)),
            ("50000 100000\n", Some(500)),
            ("100000 0\n", None),
            ("-1 100000\n", None),
            ("18446744073709551615 1\n", None),
            ("", None),
            ("x y", None),
        ] {
            assert_eq!(of_v2(text), want, "{text:?}");
        }
        assert_eq!(of_v1("-1\n", "100000\n"), None);
        assert_eq!(of_v1("200000\n", "100000\n"), Some(2000));
        assert_eq!(of_v1("200000\n", "0\n"), None);
        assert_eq!(of_v1("", ""), None);
    }

    #[test]
    fn a_quota_is_enough_for_its_whole_cpus_and_at_least_one() {
        for (millicpus, shards, cpus) in [
            (0, 1, "0"),
            (500, 1, "0.5"),
            (999, 1, "0.999"),
            (1000, 1, "1"),
            (1500, 1, "1.5"),
            (2000, 2, "2"),
            (10_250, 10, "10.25"),
        ] {
            let file = String::new();
            let quota = CpuQuota { millicpus, file };
            assert_eq!((quota.shards(), quota.cpus().as_str()), (shards, cpus));
        }
    }

    #[test]
    fn the_groups_above_count_as_far_as_they_are_mounted() {
        let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            folders("0::/system.slice/relay.service\n", unified),
            v2(&[
                "/sys/fs/cgroup/system.slice/relay.service",
                "/sys/fs/cgroup/system.slice",
                "/sys/fs/cgroup",
            ])
        );
        // In a container with a namespace of its own.
        assert_eq!(folders("0::/\n", unified), v2(&["/sys/fs/cgroup"]));
        // Moved out of the namespace's root.
        assert_eq!(folders("0::/../other\n", unified), v2(&["/sys/fs/cgroup"]));
        assert_eq!(folders("", unified), []);
        assert_eq!(folders("0::/x\n", ""), []);
        assert_eq!(folders("nonsense\n0:\n", "nonsense\n1 2 3 - cgroup2\n"), []);
    }

    #[test]
    fn the_first_version_has_a_mount_for_each_controller() {
        let cgroups =
            "5:cpu,cpuacct:/docker/abc/inner\n4:memory:/docker/abc\n1:name=systemd:/x\n0::/y\n";
        let mounts = "31 30 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
            32 30 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
            33 30 0:29 / /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n\
            34 30 0:30 / /odd\\040name rw - cgroup2 cgroup2 rw\n";
        let mut want = v1(&[
            "/sys/fs/cgroup/cpu,cpuacct/inner",
            "/sys/fs/cgroup/cpu,cpuacct",
        ]);
        want.extend(v2(&["/odd name/y", "/odd name"]));
        assert_eq!(folders(cgroups, mounts), want);
        // The host's path of a container whose mount is not its own.
        let other = "5:cpu:/kubepods/pod1/abc\n";
        let mounts = "31 30 0:27 /docker /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";
        assert_eq!(folders(other, mounts), v1(&["/sys/fs/cgroup/cpu"]));
        let like = "5:cpu:/docker-2/abc\n";
        assert_eq!(folders(like, mounts), v1(&["/sys/fs/cgroup/cpu"]));
    }
}
