//! One pinned executor on a thread of its own.
//!
//! Glommio's own pinning reads the machine's topology in `/sys`, and panics where that is missing or odd, as
//! in some containers and virtual machines. The number of the CPU is from `sched_getaffinity`, and all that
//! the kernel needs.

use std::future::Future;

use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::boot::{StartError, helper};
use crate::limits;

/// Threads of each shard that wait for disks, or verify passwords. Passwords are verified one at a time, so
/// that what waits for a disk always has a thread.
const WAITING_THREADS: usize = 2;

/// Starts an executor on `cpu` that runs what `work` makes. `failed` hears why it could not be.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start<F: Future<Output = ()> + 'static>(
    number: usize,
    cpu: usize,
    work: impl FnOnce() -> F + Send + 'static,
    failed: impl FnOnce(String) + Send + 'static,
) -> Result<(), StartError> {
    helper(&format!("shard-{number}"), move || {
        // The threads that wait are started here and run where this one may run now: on any CPU of the
        // process. On the shard's own they would stand in its way.
        let made = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(limits::IO_MEMORY_BYTES)
            .blocking_thread_pool_placement(PoolPlacement::Unbound(WAITING_THREADS))
            .make();
        let executor = match made {
            Ok(executor) => executor,
            Err(why) => return failed(why.to_string()),
        };
        match pin(cpu) {
            Ok(()) => executor.run(async move { work().await }),
            Err(why) => failed(format!("it cannot run on CPU {cpu}: {why}")),
        }
    })
}

fn pin(cpu: usize) -> rustix::io::Result<()> {
    let mut only = CpuSet::new();
    if cpu < CpuSet::MAX_CPU {
        only.set(cpu);
    }
    sched_setaffinity(None, &only)
}
