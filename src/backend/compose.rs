//! One request to one backend, put together: one write, or several that were joined.

use crate::backend::compress::{Held, is_worth_it};
use crate::backend::lane::Job;
use crate::backend::pool::Backend;
use crate::backend::request::{Coding, push_head};
use crate::limits;

/// Puts a request together in `out`; how many bytes it has, a large body that stays in its flight included, and
/// what of `out` is compressed. Once per request and backend; what is compressed is whole in `out`.
pub(super) fn compose(out: &mut Vec<u8>, backend: &Backend, jobs: &[Job]) -> (usize, Option<Held>) {
    let [job] = jobs else {
        return compose_joined(out, backend, jobs);
    };
    let request = &*job.request();
    let bytes = request.body.len();
    if is_worth_it(&backend.plan, request, bytes) {
        let packer = &backend.around.packer;
        let held = packer.pack(
            bytes,
            |deflater| deflater.push(&request.body),
            |packed| {
                push_head(out, &backend.plan, request, packed.len(), Coding::Gzip);
                out.extend_from_slice(packed);
            },
        );
        if held.is_some() {
            return (out.len(), held);
        }
    }
    push_head(out, &backend.plan, request, bytes, Coding::AsItIs);
    if bytes > limits::COPY_BYTES_MAX {
        return (out.len() + bytes, None);
    }
    out.extend_from_slice(&request.body);
    (out.len(), None)
}

fn compose_joined(out: &mut Vec<u8>, backend: &Backend, jobs: &[Job]) -> (usize, Option<Held>) {
    let Some(first) = jobs.first() else {
        return (0, None);
    };
    backend.metrics().merged.add(1);
    let mut bytes = 0;
    joined(jobs, |piece| bytes += piece.len());
    let (plan, first) = (&backend.plan, &*first.request());
    if is_worth_it(plan, first, bytes) {
        let held = backend.around.packer.pack(
            bytes,
            |deflater| joined(jobs, |piece| deflater.push(piece)),
            |packed| {
                push_head(out, plan, first, packed.len(), Coding::Gzip);
                out.extend_from_slice(packed);
            },
        );
        if held.is_some() {
            return (out.len(), held);
        }
    }
    push_head(out, plan, first, bytes, Coding::AsItIs);
    joined(jobs, |piece| out.extend_from_slice(piece));
    (out.len(), None)
}

/// The body of a joined request, piece by piece.
fn joined(jobs: &[Job], mut push: impl FnMut(&[u8])) {
    for job in jobs {
        let request = job.request();
        push(&request.body);
        if !request.body.ends_with(b"\n") {
            push(b"\n");
        }
    }
}
