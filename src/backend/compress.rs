//! `compress`: gzip on the way to one backend, where it is worth it.
//!
//! What is compressed lies in the link's own buffer, beside the body that all backends share. So there is a
//! bound on all of it together, and past it bodies go as they are.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::backend::outgoing::Kind;
use crate::backend::outgoing::Request;
use crate::http::header::line_value;
use crate::limits::beside::{
    COMPRESS_BODY_BYTES_MAX, COMPRESS_BODY_BYTES_MIN, COMPRESSED_BYTES_MAX,
};
use crate::payload::deflate::Deflater;
use crate::plan::BackendPlan;

/// The compressor of one shard.
#[derive(Default)]
pub struct Packer {
    deflater: RefCell<Deflater>,
    held: Cell<usize>,
}

/// Compressed bytes on their way, as long as this is held.
pub(super) struct Held {
    packer: Rc<Packer>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.packer.held.set(self.packer.held.get() - self.bytes);
    }
}

/// Whether a body of this request is compressed for this backend: line protocol that came plain, neither too
/// short to gain by it nor too long to hold up the shard. Once per request and backend.
pub(super) fn is_worth_it(plan: &BackendPlan, request: &Request, body_bytes: usize) -> bool {
    plan.compress
        && matches!(request.kind, Kind::Write | Kind::WriteV2 | Kind::WriteV3)
        && (COMPRESS_BODY_BYTES_MIN..=COMPRESS_BODY_BYTES_MAX).contains(&body_bytes)
        && line_value(&request.headers, "content-encoding").is_none()
}

impl Packer {
    /// Compresses what `push` is given piece by piece, `body_bytes` in all, and hands it to `take`. `None`,
    /// and `take` is not called, if there is no room for it or nothing is gained.
    pub(super) fn pack(
        self: &Rc<Self>,
        body_bytes: usize,
        push: impl FnOnce(&mut Deflater),
        take: impl FnOnce(&[u8]),
    ) -> Option<Held> {
        let held = self.held.get();
        if held + body_bytes > COMPRESSED_BYTES_MAX {
            return None;
        }
        let deflater = &mut *self.deflater.borrow_mut();
        deflater.begin();
        push(deflater);
        let packed = deflater.finish()?;
        if packed.len() >= body_bytes {
            return None;
        }
        take(packed);
        self.held.set(held + packed.len());
        Some(Held {
            packer: Rc::clone(self),
            bytes: packed.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::Packer;
    use crate::limits::beside::{COMPRESS_BODY_BYTES_MAX, COMPRESSED_BYTES_MAX};

    #[test]
    fn nothing_is_held_once_it_is_let_go_and_no_more_than_may_be() {
        let packer = Rc::<Packer>::default();
        let pack = |bytes: usize, body: &[u8]| packer.pack(bytes, |to| to.push(body), |_| {});
        let lines = b"cpu,host=a load=0.64 17\n".repeat(1000);
        let held: Vec<_> = (0..3).map(|_| pack(lines.len(), &lines)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(packer.held.get() > 0 && packer.held.get() < 3 * lines.len());
        packer.held.set(packer.held.get() + COMPRESSED_BYTES_MAX);
        assert!(pack(lines.len(), &lines).is_none(), "no room");
        packer.held.set(packer.held.get() - COMPRESSED_BYTES_MAX);
        drop(held);
        assert_eq!(packer.held.get(), 0);
        assert!(pack(4, b"abcd").is_none(), "nothing is gained");
        assert!(pack(COMPRESS_BODY_BYTES_MAX, &lines).is_some());
    }
}
