//! Another wall clock for one program.
//!
//! A library of 20 lines, `clock.c`, is compiled with the system's compiler and loaded into the program. The clock that
//! only goes forward, with which programs measure durations, is not moved.

use std::path::PathBuf;
use std::process::Command;

use crate::folder::{self, Folder};

const SOURCE: &str = include_str!("clock.c");

/// A wall clock that is as far from the real one as the test sets it.
#[derive(Debug)]
pub struct Clock {
    folder: Folder,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Compiles the library. The clock is the real one at first.
    pub fn new() -> Self {
        let clock = Self { folder: Folder::new() };
        let source = clock.path("clock.c");
        std::fs::write(&source, SOURCE).expect("a temporary folder accepts files");
        let library = clock.path("clock.so");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .output()
            .expect("cc starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        clock.set_ahead(0);
        clock
    }

    /// Moves the clock of the programs that use it, at once: so many seconds ahead of the real one.
    pub fn set_ahead(&self, seconds: i64) {
        folder::replace(&self.path("offset"), seconds.to_string());
    }

    /// The environment of a program that uses it.
    pub fn env(&self) -> [(String, String); 2] {
        let text = |name| self.path(name).display().to_string();
        [("LD_PRELOAD".to_owned(), text("clock.so")), ("TEST_CLOCK_OFFSET".to_owned(), text("offset"))]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_program_has_another_time_which_changes_while_it_runs() {
        let clock = Clock::new();
        let year = || {
            let output = Command::new("date").arg("+%Y").envs(clock.env()).output().expect("date starts");
            String::from_utf8_lossy(&output.stdout).trim().parse::<i64>().expect("a year")
        };
        let now = year();
        clock.set_ahead(20 * 366 * 24 * 60 * 60);
        assert!(year() > now + 18, "{}", year());
        clock.set_ahead(0);
        assert_eq!(year(), now);
    }
}
