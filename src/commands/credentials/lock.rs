//! Locks between processes, on a file beside the one that they protect: that one is replaced, and a lock on it would be
//! lost.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often a lock that another process holds is tried.
const RETRY_PERIOD: Duration = Duration::from_millis(10);

/// An exclusive lock, until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Acquires the lock of `path`. Returns `None` if another process holds it for longer than `timeout`.
    pub(super) async fn acquire(path: &Path, timeout: Duration) -> io::Result<Option<Self>> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        // The content is never used.
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&name)?;
        let deadline = Instant::now() + timeout;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(None),
                Err(TryLockError::WouldBlock) => sleep(RETRY_PERIOD).await,
            }
        }
    }
}
