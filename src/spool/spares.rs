//! Files of a log that nobody needs: they are written anew, the oldest first, and what is too much of
//! them is removed, off the shard.
//!
//! They keep their names until then, so a kill may find them, and their records are read again. That is
//! harmless as long as there is no hole between them and the log: so the oldest goes first, always.
//!
//! While one is being removed none can be written anew, and a new one is made, which is one too many
//! again later. So they are removed only once they are many, and then most of them.

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
    /// Oldest first.
    files: VecDeque<Spare<D>>,
    /// So many of them, the oldest, are not to be written anew.
    unfit: usize,
    /// How many removals are under way; what they remove is older than all files here.
    dying: Arc<AtomicUsize>,
}

impl<D: Disk> Spares<D> {
    /// None yet.
    pub fn new(disk: &Arc<D>) -> Self {
        Self {
            disk: Arc::clone(disk),
            files: VecDeque::new(),
            unfit: 0,
            dying: Arc::default(),
        }
    }

    /// The log's oldest file is not needed. Unless it is of the usual size, it is not written anew, nor are
    /// those before it.
    pub fn add(&mut self, name: String, file: &Arc<D::File>, is_usual: bool) {
        self.files.push_back((name, Arc::clone(file)));
        if !is_usual {
            self.unfit = self.files.len();
        }
    }

    /// A file to be written anew: the oldest, once what is older is gone.
    pub fn take(&mut self) -> Option<Spare<D>> {
        let is_oldest = self.unfit == 0 && !self.is_removing();
        is_oldest.then(|| self.files.pop_front()).flatten()
    }

    /// Files that are to be removed, if there are any: see [`Doomed::run`]. Once per tick.
    pub fn doomed(&mut self) -> Option<Doomed<D>> {
        let surplus = match self.files.len() {
            many if many > limits::SPARE_SEGMENTS_MAX => many - limits::SPARE_SEGMENTS_MAX / 2,
            _ => 0,
        };
        let count = surplus.max(self.unfit);
        if count == 0 || self.is_removing() {
            return None;
        }
        self.unfit = 0;
        self.dying.fetch_add(1, Ordering::AcqRel);
        Some(Doomed {
            disk: Arc::clone(&self.disk),
            files: self.files.drain(..count).collect(),
            dying: Arc::clone(&self.dying),
        })
    }

    fn is_removing(&self) -> bool {
        self.dying.load(Ordering::Acquire) > 0
    }

    /// Makes room on a full disk; whether there was anything to remove.
    pub fn make_room(&mut self) -> bool {
        let oldest = self.files.pop_front();
        self.unfit = self.unfit.saturating_sub(1);
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
    use crate::spool::disk::{Place, PlaceFile};

    fn file() -> Arc<PlaceFile> {
        Arc::new(fs::File::open("/dev/null").unwrap().into())
    }

    #[test]
    fn the_oldest_goes_first_and_none_is_used_before_it_is_gone() {
        let mut spares = Spares::new(&Arc::new(Place::Memory));
        spares.add("large".to_owned(), &file(), false);
        spares.add("1".to_owned(), &file(), true);
        assert!(spares.take().is_none(), "the large one is not gone");
        let doomed = spares.doomed().unwrap();
        assert_eq!(doomed.files.len(), 1);
        assert!(spares.take().is_none(), "it is going");
        doomed.run();
        assert_eq!(spares.take().unwrap().0, "1");
        spares.add("2".to_owned(), &file(), true);
        spares.add("large".to_owned(), &file(), false);
        assert!(spares.take().is_none(), "it is older than the large one");
        assert_eq!(spares.doomed().unwrap().files.len(), 2);
    }

    #[test]
    fn few_are_kept_and_many_are_brought_down_to_a_few() {
        let mut spares = Spares::new(&Arc::new(Place::Memory));
        for n in 0..limits::SPARE_SEGMENTS_MAX {
            spares.add(n.to_string(), &file(), true);
        }
        assert!(spares.doomed().is_none());
        assert_eq!(spares.take().unwrap().0, "0");
        spares.add("8".to_owned(), &file(), true);
        spares.add("9".to_owned(), &file(), true);
        let doomed = spares.doomed().unwrap();
        assert_eq!(doomed.files[0].0, "1");
        assert!(spares.doomed().is_none(), "one at a time");
        let left = limits::SPARE_SEGMENTS_MAX + 1 - doomed.files.len();
        doomed.run();
        assert!(spares.doomed().is_none(), "{left} are few");
        let taken = std::iter::from_fn(|| spares.take()).count();
        assert_eq!(taken, left);
    }

    #[test]
    fn a_full_disk_gets_all_there_is() {
        let mut spares = Spares::new(&Arc::new(Place::Memory));
        spares.add("0".to_owned(), &file(), false);
        spares.add("1".to_owned(), &file(), true);
        assert!(spares.make_room() && spares.make_room() && !spares.make_room());
    }
}
