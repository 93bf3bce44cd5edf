//! One write, every backend of its listener at once, one verdict.
//!
//! The sends are started here, in the client's own turn; what the backends say is heard one by one,
//! in the order they speak, until nothing that comes later may change what the client is told.

pub mod verdict;

use std::rc::Rc;

use crate::backend::flight::Ticket;
use crate::backend::lane::Lane;
use crate::backend::pool::Backend;
use crate::fanout::verdict::{Ruling, Verdict};

/// One backend of a listener, and the client connection's lane to it.
pub struct Output {
    /// The backend.
    pub backend: Rc<Backend>,
    /// This connection's writes to it.
    pub lane: Rc<Lane>,
}

/// Sends a write to every output and returns what the client is to hear. Sends that are still under
/// way then go on by themselves.
pub async fn relay(ticket: &Ticket, outputs: &[Output], acks: usize) -> Ruling {
    let judges = outputs
        .iter()
        .filter(|output| !output.backend.plan.drop_responses)
        .count();
    for output in outputs {
        output.backend.submit(&output.lane, ticket.clone());
    }
    let mut verdict = Verdict::new(judges, acks);
    let mut place = 0;
    loop {
        if let Some(ruling) = verdict.ruling() {
            return ruling;
        }
        let (from, outcome) = ticket.heard(place).await;
        place += 1;
        let judges = outputs
            .iter()
            .any(|output| output.backend.id == from && !output.backend.plan.drop_responses);
        if judges {
            verdict.hear(from, outcome);
        }
    }
}
