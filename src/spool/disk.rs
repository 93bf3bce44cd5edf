//! Where segments lie: in a folder, or in memory that the kernel keeps for us.
//!
//! A log knows its disk by this trait only, so that a simulation can cut the power. Files are written
//! and read by position; space is taken when a file is made, so that a full disk is met there and not
//! in the middle of a record. A disk that fails is an error, never a signal: see `window`.

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use rustix::io::{Errno, pwritev};

use crate::spool::window::Window;

/// The files of one log.
pub trait Disk: Send + Sync + 'static {
    /// One of them.
    type File: DiskFile;

    /// A new file of `bytes` zeros, with its space taken.
    ///
    /// # Errors
    /// What the disk says: mostly that it is full.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Self::File>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the disk says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file that is not needed another name, and `bytes` of space. What was in it stays in it.
    ///
    /// # Errors
    /// What the disk says.
    fn recycle(&self, file: &Self::File, from: &str, to: &str, bytes: u64) -> io::Result<()>;

    /// Makes what was created and removed safe from a power cut.
    ///
    /// # Errors
    /// What the disk says.
    fn sync_names(&self) -> io::Result<()>;
}

/// A file that is read and written by position, by several threads.
pub trait DiskFile: Send + Sync + 'static {
    /// Writes all of `bytes` at `at`.
    ///
    /// # Errors
    /// What the disk says.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Writes the pieces one behind the other, from `at` on.
    ///
    /// # Errors
    /// What the disk says.
    fn write_pieces_at(&self, pieces: [&[u8]; 3], mut at: u64) -> io::Result<()> {
        for piece in pieces {
            self.write_at(piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Reads what there is at `at`; 0 at the end.
    ///
    /// # Errors
    /// What the disk says.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Makes what was written safe from a power cut. Waits for the disk.
    ///
    /// # Errors
    /// What the disk says.
    fn sync(&self) -> io::Result<()>;

    /// Its first `bytes` are written again and again from now on: what makes that cheaper may be done.
    fn warm(&self, _bytes: u64) {}

    /// Gives back what lies behind `bytes`.
    ///
    /// # Errors
    /// What the disk says.
    fn cut(&self, bytes: u64) -> io::Result<()>;
}

/// A file in a [`Place`].
#[derive(Debug)]
pub struct PlaceFile {
    file: fs::File,
    /// How bytes get into it without a system call, once it is written again and again.
    window: OnceLock<Window>,
}

impl From<fs::File> for PlaceFile {
    fn from(file: fs::File) -> Self {
        Self {
            file,
            window: OnceLock::new(),
        }
    }
}

impl PlaceFile {
    /// How long it is.
    ///
    /// # Errors
    /// What the disk says.
    pub fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Writes through the window, if there is one; whether it did.
    fn store<const N: usize>(&self, pieces: [&[u8]; N], at: u64) -> bool {
        let window = self.window.get();
        window.is_some_and(|window| window.store(pieces, at))
    }
}

impl DiskFile for PlaceFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match self.store([bytes], at) {
            true => Ok(()),
            false => self.file.write_all_at(bytes, at),
        }
    }

    fn write_pieces_at(&self, pieces: [&[u8]; 3], mut at: u64) -> io::Result<()> {
        if self.store(pieces, at) {
            return Ok(());
        }
        let mut written = match pwritev(&self.file, &pieces.map(IoSlice::new), at) {
            Err(Errno::INTR) => 0,
            written => written?,
        };
        for piece in pieces {
            let done = written.min(piece.len()); // all of it, but on a disk that is almost full
            self.file.write_all_at(&piece[done..], at + done as u64)?;
            written -= done;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn warm(&self, bytes: u64) {
        if self.window.get().is_none()
            && let Ok(window) = Window::open(&self.file, bytes)
        {
            let _is_its_first = self.window.set(window);
        }
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}

/// A place for files: a folder, or memory.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder of one log.
    Folder(PathBuf),
    /// Memory, as anonymous files: what other shards read by the same calls.
    Memory,
}

impl Place {
    /// Makes a folder that only its owner may look into, with those above it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn folder(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        Ok(Self::Folder(path.to_owned()))
    }
}

impl Disk for Place {
    type File = PlaceFile;

    fn create(&self, name: &str, bytes: u64) -> io::Result<PlaceFile> {
        match self {
            Self::Folder(path) => {
                let path = path.join(name);
                let file = fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)?;
                if let Err(why) = take_space(&file, bytes) {
                    let _as_well_as_we_can = fs::remove_file(&path);
                    return Err(why);
                }
                Ok(file.into())
            }
            Self::Memory => {
                let file: OwnedFd = memfd_create(name, MemfdFlags::CLOEXEC)?;
                Ok(fs::File::from(file).into())
            }
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match self {
            Self::Folder(path) => fs::remove_file(path.join(name)),
            Self::Memory => Ok(()), // gone with its last holder
        }
    }

    fn recycle(&self, file: &PlaceFile, from: &str, to: &str, bytes: u64) -> io::Result<()> {
        match self {
            Self::Folder(path) => {
                fs::rename(path.join(from), path.join(to))?;
                take_space(&file.file, bytes)
            }
            Self::Memory => Ok(()), // it has no name, and grows as it is written
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        match self {
            Self::Folder(path) => fs::File::open(path)?.sync_all(),
            Self::Memory => Ok(()),
        }
    }
}

fn take_space(file: &fs::File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // Some file systems cannot: there a full disk is met at the write.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes),
        taken => Ok(taken?),
    }
}
