//! What replay stands on in the simulation.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use influxdb_relay::clock::Moment;
use influxdb_relay::plan::BackendId;
use influxdb_relay::replay::ground::{Corpse, Ground, News, Request};
use influxdb_relay::replay::judge::Sent;
use influxdb_relay::spool::disk::DiskFile;
use influxdb_relay::spool::keeper::Keeper;
use influxdb_relay::spool::source::Want;
use influxdb_relay::spool::track::Track;

use crate::disk::{SimDisk, SimFile};
use crate::run::Plant;
use crate::world::Common;

/// One backend's ground.
pub(crate) struct SimGround {
    pub(crate) common: Rc<Common>,
    pub(crate) backend: usize,
    pub(crate) keeper: Rc<Keeper<SimDisk>>,
    pub(crate) old: Vec<Arc<Track<SimFile>>>,
    pub(crate) logs: Vec<Arc<Track<SimFile>>>,
    pub(crate) dead: Rc<RefCell<Vec<Corpse>>>,
}

impl Ground for SimGround {
    type File = SimFile;

    fn now(&self) -> Moment {
        Moment(self.common.now.get())
    }

    fn wall_ms(&self) -> u64 {
        self.common.now.get() / 1_000_000
    }

    async fn while_live(&self) {
        self.keeper.while_live(BackendId(self.backend)).await;
    }

    async fn rest(&self, span: Duration) {
        self.common.rest(span).await;
    }

    async fn read(&self, want: &Want<SimFile>) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; want.bytes];
        let count = want.segment.file.read_at(&mut buffer, want.at)?;
        buffer.truncate(count);
        if self.common.plant == Plant::NoChecksum {
            forge_checksums(&mut buffer);
        }
        self.common
            .rest(Duration::from_micros(self.common.dice(200)))
            .await;
        Ok(buffer)
    }

    async fn send(&self, request: Request<'_>) -> Sent {
        if self.common.plant == Plant::CursorBeforeSend && self.common.dice(4) == 0 {
            let (common, body, backend) =
                (Rc::clone(&self.common), request.body.to_vec(), self.backend);
            self.common.spawn(async move {
                common.rest(Duration::from_millis(common.dice(300))).await;
                common.backends[backend].receive(&body);
            });
            return Sent::Answered {
                status: 204,
                reason: String::new(),
                retry_after: None,
            };
        }
        self.common.exchange(self.backend, request.body).await
    }

    fn is_up(&self) -> bool {
        self.common.backends[self.backend].is_up()
    }

    fn is_up_everywhere(&self) -> bool {
        self.is_up()
    }

    async fn bury(&self, corpses: Vec<Corpse>) -> io::Result<()> {
        self.dead.borrow_mut().extend(corpses);
        Ok(())
    }

    fn inflate(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn old_logs(&self) -> Vec<Arc<Track<SimFile>>> {
        self.old.clone()
    }

    fn logs(&self) -> &[Arc<Track<SimFile>>] {
        &self.logs
    }

    fn dice(&self) -> u64 {
        self.common.dice(1 << 40)
    }

    fn say(&self, _: News) {}
}

/// What a reader without a checksum would see: every record seems right.
fn forge_checksums(bytes: &mut [u8]) {
    let number = |bytes: &[u8], at: usize| {
        usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
    };
    let mut at = 0;
    while at + 96 <= bytes.len() {
        let is_record = &bytes[at..at + 4] == b"KEPT" || &bytes[at..at + 4] == b"VOID";
        let length = number(bytes, at + 40);
        if is_record && length >= 96 && at + length <= bytes.len() {
            let head_sum = crc32c::crc32c(&bytes[at + 24..at + 88]);
            bytes[at + 88..at + 92].copy_from_slice(&head_sum.to_le_bytes());
            let sum = crc32c::crc32c(&bytes[at + 24..at + length]);
            bytes[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
            at += length;
        } else {
            at += 8;
        }
    }
}
