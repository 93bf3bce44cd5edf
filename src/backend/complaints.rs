//! What operators hear of a backend that is there and takes nothing.

use crate::backend::answer::Reply;
use crate::backend::outcome::Outcome;
use crate::backend::pool::Backend;
use crate::backend::refusals;
use crate::backend::shared::words_of;
use crate::events::Event;

impl Backend {
    /// What is wrong may become another thing while it is down: first its name is unknown, then its
    /// certificate.
    pub(super) fn note(&self, why: &str) {
        let wall_ms = self.around.driver.clock().wall_ns() / 1_000_000;
        let wall_ms = u64::try_from(wall_ms).unwrap_or(0);
        self.shared.complain(why, wall_ms);
    }

    /// The backend's answer to a write: operators hear when it begins to take none, and when that is over. Once per
    /// request and backend.
    pub(super) fn heard(&self, outcome: Outcome, reply: Option<&Reply>) {
        let change = self.refusals.borrow_mut().heard(outcome);
        if change == refusals::Change::None || self.retired.get() {
            return;
        }
        let (shard, backend) = (self.around.shard, self.id);
        self.around.events.tell(match change {
            refusals::Change::Ends(refused) => {
                self.shared.is_well();
                Event::BackendTakes {
                    shard,
                    backend,
                    refused,
                }
            }
            _ => {
                let why = words_of(outcome, reply);
                self.note(&why);
                Event::BackendRefuses {
                    shard,
                    backend,
                    why,
                }
            }
        });
    }
}
