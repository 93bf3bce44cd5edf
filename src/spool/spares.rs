//! Files of a log that nobody needs: the youngest are kept to be written anew, the others are removed,
//! off the shard.
//!
//! They keep their names until then, so a kill may find them, and their records are read again. That is
//! harmless as long as there is no hole between them and the log: so the oldest goes first, always.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits;
use crate::spool::disk::Disk;

/// A file and its name.
type Spare<D> = (String, Arc<<D as Disk>::File>);

/// The files of one log that nobody needs.
pub struct Spares<D: Disk> {
    disk: Arc<D>,
    /// To be written anew, oldest first.
    kept: VecDeque<Spare<D>>,
    /// To be removed, oldest first; all are older than what is kept.
    doomed: Vec<Spare<D>>,
    /// How many removals are under way.
    dying: Arc<AtomicUsize>,
}

impl<D: Disk> Spares<D> {
    /// None yet.
    pub fn new(disk: &Arc<D>) -> Self {
        Self {
            disk: Arc::clone(disk),
            kept: VecDeque::new(),
            doomed: Vec::new(),
            dying: Arc::default(),
        }
    }

    /// The log's oldest file is not needed. Unless it is of the usual size, none before it is kept either.
    pub fn add(&mut self, name: String, file: &Arc<D::File>, is_usual: bool) {
        self.kept.push_back((name, Arc::clone(file)));
        let most = if is_usual {
            limits::SPARE_SEGMENTS_MAX
        } else {
            0
        };
        let surplus = self.kept.len().saturating_sub(most);
        self.doomed.extend(self.kept.drain(..surplus));
    }

    /// A file to be written anew: the oldest, once what is older is gone.
    pub fn take(&mut self) -> Option<Spare<D>> {
        let is_oldest = self.doomed.is_empty() && self.dying.load(Ordering::Acquire) == 0;
        is_oldest.then(|| self.kept.pop_front()).flatten()
    }

    /// Files that are to be removed, if there are any: see [`Doomed::run`]. Once per tick.
    pub fn doomed(&mut self) -> Option<Doomed<D>> {
        if self.doomed.is_empty() {
            return None;
        }
        self.dying.fetch_add(1, Ordering::AcqRel);
        Some(Doomed {
            disk: Arc::clone(&self.disk),
            files: std::mem::take(&mut self.doomed),
            dying: Arc::clone(&self.dying),
        })
    }

    /// Makes room on a full disk; whether there was anything to remove.
    pub fn make_room(&mut self) -> bool {
        if let Some(doomed) = self.doomed() {
            doomed.run();
            return true;
        }
        let oldest = self.take();
        if let Some((name, _)) = &oldest {
            let _found_at_the_next_start = self.disk.remove(name);
        }
        oldest.is_some()
    }
}

/// Files that are to be removed.
pub struct Doomed<D: Disk> {
    disk: Arc<D>,
    files: Vec<Spare<D>>,
    dying: Arc<AtomicUsize>,
}

impl<D: Disk> Doomed<D> {
    /// Removes them, which takes milliseconds for each large one. Never on a shard.
    pub fn run(self) {
        for (name, file) in self.files {
            let _found_at_the_next_start = self.disk.remove(&name);
            drop(file); // what it held is given back here
        }
        self.dying.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::Spares;
    use crate::limits;
    use crate::spool::disk::Place;

    #[test]
    fn the_oldest_goes_first_and_none_is_used_before_it_is_gone() {
        let mut spares = Spares::new(&Arc::new(Place::Memory));
        let file = || Arc::new(fs::File::open("/dev/null").unwrap());
        for n in 0..=limits::SPARE_SEGMENTS_MAX {
            spares.add(n.to_string(), &file(), true);
        }
        assert!(spares.take().is_none(), "0 is not gone");
        let doomed = spares.doomed().unwrap();
        assert_eq!(doomed.files[0].0, "0");
        assert!(spares.take().is_none(), "0 is going");
        assert!(spares.doomed().is_none(), "once");
        doomed.run();
        assert_eq!(spares.take().unwrap().0, "1");
        spares.add("large".to_owned(), &file(), false);
        assert!(spares.take().is_none(), "all are older than the large one");
        assert_eq!(
            spares.doomed().unwrap().files.len(),
            limits::SPARE_SEGMENTS_MAX
        );
    }

    #[test]
    fn a_full_disk_gets_all_there_is() {
        let mut spares = Spares::new(&Arc::new(Place::Memory));
        let file = Arc::new(fs::File::open("/dev/null").unwrap());
        spares.add("0".to_owned(), &file, false);
        spares.add("1".to_owned(), &file, true);
        assert!(spares.make_room() && spares.make_room() && !spares.make_room());
    }
}
