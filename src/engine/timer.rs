//! Waiting for time to pass, for tasks that do so rarely: probes, rests, the housekeeping tick.
//!
//! Requests never wait here; they have deadlines on their streams.

use std::time::Duration;

/// Gives the shard to others for at least `span`.
pub async fn sleep(span: Duration) {
    glommio::timer::sleep(span).await;
}
