//! What all shards share of one door: who may enter, and how often.

use std::sync::Arc;

use crate::access::rates::Rates;
use crate::access::roll::Roll;
use crate::plan::ListenerPlan;

/// The list of one door, and its buckets.
pub struct Warden {
    /// Who may enter; `None` is everybody.
    pub roll: Option<Roll>,
    /// How often.
    pub rates: Rates,
}

impl Warden {
    /// Of one door. Once per plan.
    pub fn new(plan: &ListenerPlan) -> Arc<Self> {
        let roll = plan.access.as_ref().map(Roll::new);
        let rates = Rates::new(&plan.rates, roll.as_ref().map_or(0, Roll::len));
        Arc::new(Self { roll, rates })
    }
}
