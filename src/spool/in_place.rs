//! What is written into records that are in a log already, as their answers come; and the secrets of segments.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::spool::disk::DiskFile;
use crate::spool::record::{self, Nonce, VOID};
use crate::spool::track::Track;

impl<F: DiskFile> Track<F> {
    /// Marks a record, refused to its client, as owed to nobody.
    ///
    /// # Errors
    /// What the disk says: then it may be replayed after a restart.
    pub fn void(&self, sequence: u64, offset: u32) -> io::Result<()> {
        match self.segment_of(sequence) {
            Some(segment) => segment.file.write_at(VOID, u64::from(offset)),
            None => Ok(()),
        }
    }

    /// Notes in a record which of its targets have accepted the write, so that a start after a kill knows.
    /// Once per acceptance; no system call where the segment is mapped.
    ///
    /// # Errors
    /// What the disk says: then the write may be sent to them once more after a restart.
    pub fn note_accepted(&self, sequence: u64, offset: u32, accepted: u64) -> io::Result<()> {
        match self.segment_of(sequence) {
            Some(segment) => segment.file.write_at(
                &record::acceptances(accepted),
                u64::from(offset) + record::ACCEPTED_AT,
            ),
            None => Ok(()),
        }
    }
}

/// A secret that nobody can guess: the kernel's random numbers.
pub(super) fn fresh_nonce() -> io::Result<Nonce> {
    let mut nonce = [0; Nonce::BYTES];
    let mut filled = 0;
    while filled < nonce.len() {
        filled += getrandom(&mut nonce[filled..], GetRandomFlags::empty())?;
    }
    Ok(Nonce(nonce))
}
