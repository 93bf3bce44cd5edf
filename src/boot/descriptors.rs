//! How many descriptors a plan may come to need. Pure.

use crate::limits;
use crate::plan::Plan;

/// Returns the descriptors that connections of clients and links to backends take at most, with all else.
pub(super) fn wanted(plan: &Plan) -> u64 {
    let links = plan
        .backends
        .iter()
        .map(|backend| backend.links_max.saturating_add(limits::ASKING_IDLE_MAX));
    let sockets = plan.listeners.len() + plan.udp.len() + plan.outputs.len();
    let per_shard = links
        .chain([
            plan.limits.connections_max,
            sockets,
            limits::DESCRIPTORS_PER_SHARD,
        ])
        .fold(0, usize::saturating_add);
    let all = per_shard
        .saturating_mul(plan.cpus.len())
        .saturating_add(limits::DESCRIPTORS_BESIDE);
    u64::try_from(all).unwrap_or(u64::MAX)
}

/// Returns what is to be said where the limit is lower.
pub(super) fn too_few(wanted: u64, limit: u64) -> Option<String> {
    (limit < wanted).then(|| {
        format!(
            "RLIMIT_NOFILE is {limit} and cannot be raised; max-connections of clients and of outputs may take {wanted} \
             descriptors: past it connections are not taken or made; set LimitNOFILE in the unit (`ulimit -n`), or \
             lower max-connections"
        )
    })
}
