//! What the kernel must give, asked before glommio asks: it panics or exits where this explains.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::boot::descriptors;
use crate::limits;
use crate::plan::Plan;

/// What is missing, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The kernel has no io_uring, or something says so in its place: the profile of podman does.
    #[error(
        "there is no io_uring here: on a kernel older than Linux 5.8, or built without it, boot a newer one; in a \
         container, allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
    )]
    IoUring,
    /// Something forbids io_uring.
    #[error(
        "io_uring is forbidden here ({0}): allow io_uring_setup, io_uring_enter and io_uring_register in the \
         container's seccomp profile, and set kernel.io_uring_disabled=0"
    )]
    IoUringForbidden(String),
    /// Too little lockable memory.
    #[error(
        "RLIMIT_MEMLOCK is {found} bytes and cannot be raised; {wanted} are needed: set LimitMEMLOCK=infinity in \
         the unit, or `ulimit -l unlimited`"
    )]
    Memlock {
        /// The hard limit.
        found: u64,
        /// What the shards need.
        wanted: u64,
    },
}

/// Whether `shards` executors can be started; raises the soft limit on lockable memory if it must.
///
/// # Errors
/// [`Missing`].
pub fn check(shards: usize) -> Result<(), Missing> {
    raise_descriptors();
    raise_memlock(shards)?;
    probe_ring()
}

/// As many descriptors as the system lets this process have: a spool alone may have more files than a
/// shell allows. Once per start.
pub fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it is refused, what we have must do.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}

/// Says where the limit on descriptors is too low for a plan: as a warning where it is less than half. Once per
/// plan.
pub(super) fn say_few_descriptors(plan: &Plan) {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return;
    };
    let wanted = descriptors::wanted(plan);
    match descriptors::too_few(wanted, limit) {
        Some(words) if limit < wanted / 2 => tracing::warn!("{words}"),
        Some(words) => tracing::info!("{words}"),
        None => {}
    }
}

fn raise_memlock(shards: usize) -> Result<(), Missing> {
    let wanted = limits::MEMLOCK_BYTES_MIN.saturating_mul(shards as u64);
    let Rlimit { current, maximum } = getrlimit(Resource::Memlock);
    if current.is_none_or(|soft| soft >= wanted) {
        return Ok(());
    }
    if maximum.is_none_or(|hard| hard >= wanted)
        && setrlimit(
            Resource::Memlock,
            Rlimit {
                current: maximum,
                maximum,
            },
        )
        .is_ok()
    {
        return Ok(());
    }
    // Root may raise the hard limit too.
    let raised = Rlimit {
        current: Some(wanted),
        maximum: Some(wanted),
    };
    setrlimit(Resource::Memlock, raised).map_err(|_| Missing::Memlock {
        found: maximum.unwrap_or(0),
        wanted,
    })
}

fn probe_ring() -> Result<(), Missing> {
    let mut params = rustix::io_uring::io_uring_params::default();
    // SAFETY: `params` is a whole, zeroed structure that the kernel fills; the ring is closed again
    // at once and nothing is mapped from it.
    #[allow(unsafe_code)]
    let ring = unsafe { rustix::io_uring::io_uring_setup(4, &mut params) };
    match ring {
        Ok(_) => Ok(()),
        Err(Errno::NOSYS) => Err(Missing::IoUring),
        Err(error) => Err(Missing::IoUringForbidden(error.to_string())),
    }
}
