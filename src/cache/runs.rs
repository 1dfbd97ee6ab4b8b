//! Run records: the events of one run, as JSON lines; the last [`KEPT`] stay.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::Result;
use super::{Cache, lock};
use crate::fs;

/// Runs that are kept.
const KEPT: usize = 50;

/// A run that is being recorded. May be shared between threads.
#[derive(Debug)]
pub struct RunLog {
    id: String,
    path: PathBuf,
    file: Mutex<File>,
}

/// A recorded run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// Its name: when it started, in UTC, and the process. Sorts by time.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
}

impl RunLog {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Adds one event, as one line that is written at once.
    pub fn event(&self, event: &serde_json::Value) -> Result<()> {
        let line = format!("{event}\n");
        Ok(lock(&self.file).write_all(line.as_bytes()).map_err(|e| fs::error("write", &self.path, e))?)
    }
}

impl RunInfo {
    /// The events. Lines that are no JSON are left out: the last one of a run that was killed, or
    /// that ran into a full disk.
    pub fn events(&self) -> Result<Vec<serde_json::Value>> {
        let bytes = fs::read(&self.path)?;
        Ok(bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

impl Cache {
    /// Starts the record of a run that began at this time.
    pub fn start_run(&self, id_time: SystemTime) -> Result<RunLog> {
        self.require_writable()?;
        let since = id_time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let name = format!("{}-{}", time_name(i128::try_from(since).unwrap_or(0)), std::process::id());
        let folder = self.folder("runs");
        fs::create_dir_all(&folder)?;
        make_room(&folder, KEPT);
        for n in 1u32.. {
            let id = if n == 1 { name.clone() } else { format!("{name}-{n}") };
            let path = folder.join(format!("{id}.jsonl"));
            match fs::create_new(&path) {
                Ok(file) => return Ok(RunLog { id, path, file: Mutex::new(file) }),
                Err(e) if e.source.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e.into()),
            }
        }
        unreachable!("some number is free");
    }

    /// The recorded runs, the oldest first.
    pub fn runs(&self) -> Result<Vec<RunInfo>> {
        let run = |path: PathBuf| {
            let id = path.file_name()?.to_str()?.strip_suffix(".jsonl")?.to_owned();
            Some(RunInfo { id, path })
        };
        Ok(fs::list(&self.folder("runs"))?.into_iter().filter_map(run).collect())
    }
}

/// Removes the first names of a folder, so that there are `kept` when one is added: done before
/// that, so that a clock which was set back does not cost the one. What cannot be removed stays.
pub(super) fn make_room(folder: &Path, kept: usize) {
    let paths = fs::list(folder).unwrap_or_default();
    for path in paths.iter().take((paths.len() + 1).saturating_sub(kept)) {
        let _ = match fs::look(path) {
            Ok(Some((fs::Kind::Folder, _))) => fs::remove_dir_all(path),
            _ => fs::remove_file(path),
        };
    }
}

/// A time in UTC as a file name that sorts: `20260602T134501.123Z`.
pub(super) fn time_name(ns: i128) -> String {
    let ms = u64::try_from(ns / 1_000_000).unwrap_or(0);
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    // Days since 1970 to the calendar: years start in March, so that the leap day comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{:03}Z", rest % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_named_by_the_calendar() {
        let name = |seconds: i128| time_name(seconds * 1_000_000_000 + 7_000_000);
        assert_eq!(name(0), "19700101T000000.007Z");
        assert_eq!(name(951_782_399), "20000228T235959.007Z");
        assert_eq!(name(951_782_400), "20000229T000000.007Z");
        assert_eq!(name(1_709_251_200), "20240301T000000.007Z");
        assert_eq!(name(4_102_444_799), "20991231T235959.007Z");
    }
}
