//! A version of TensorRT, as trtexec tells it.

use std::fmt;
use std::str::FromStr;

/// A version of TensorRT: major, minor, patch. A patch that is not known is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The oldest whose options are known here.
    pub const OLDEST: Version = Version(8, 6, 0);
    /// The first that is not known here.
    pub const BEYOND: Version = Version(12, 0, 0);

    /// From the number in a banner: 8601 is 8.6.1, 100300 is 10.3.0.
    #[must_use]
    pub fn of_number(number: u32) -> Version {
        match number {
            ..10_000 => Version(number / 1000, number / 100 % 10, number % 100),
            _ => Version(number / 10_000, number / 100 % 100, number % 100),
        }
    }

    /// From what trtexec writes: the first line that has a banner, `&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # …`.
    #[must_use]
    pub fn of_banner(output: &str) -> Option<Version> {
        let line = output.lines().find_map(|line| line.split_once("&&&& RUNNING TensorRT.trtexec"))?.1;
        let number = line.split_once("[TensorRT v")?.1.split(|c: char| !c.is_ascii_digit()).next()?;
        let number = number.parse().ok().filter(|number| *number >= 1000)?;
        Some(Version::of_number(number))
    }

    /// Are its options known?
    #[must_use]
    pub fn is_known(self) -> bool {
        (Version::OLDEST..Version::BEYOND).contains(&self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A dotted version of one to four numbers.
impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Version, ()> {
        let parts: Vec<u32> = text
            .split('.')
            .map(|part| {
                part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten().ok_or(())
            })
            .collect::<Result<_, ()>>()?;
        match parts.as_slice() {
            [major] => Ok(Version(*major, 0, 0)),
            [major, minor] => Ok(Version(*major, *minor, 0)),
            [major, minor, patch] | [major, minor, patch, _] => Ok(Version(*major, *minor, *patch)),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banners_of_every_form_are_read() {
        for (banner, version) in [
            ("&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # trtexec --help", Version(8, 6, 1)),
            ("&&&& RUNNING TensorRT.trtexec [TensorRT v9300] # ./trtexec", Version(9, 3, 0)),
            ("&&&& RUNNING TensorRT.trtexec [TensorRT v100001] # trtexec", Version(10, 0, 1)),
            ("&&&& RUNNING TensorRT.trtexec [TensorRT v101303] [b9] # trtexec", Version(10, 13, 3)),
            ("noise\n&&&& RUNNING TensorRT.trtexec [TensorRT v110100] [b4] # x", Version(11, 1, 0)),
        ] {
            assert_eq!(Version::of_banner(banner), Some(version), "{banner}");
        }
        for garbage in ["", "trtexec", "&&&& RUNNING TensorRT.trtexec [TensorRT v] #", "[TensorRT v8601]"] {
            assert_eq!(Version::of_banner(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn dotted_versions_are_read_and_ordered() {
        assert_eq!("10.3".parse(), Ok(Version(10, 3, 0)));
        assert_eq!("10.3.0.26".parse(), Ok(Version(10, 3, 0)));
        assert!("10.x".parse::<Version>().is_err() && "".parse::<Version>().is_err());
        assert!(Version(8, 6, 1) < Version(9, 0, 0) && Version(10, 9, 0) < Version(10, 13, 0));
        assert_eq!(Version(10, 13, 3).to_string(), "10.13.3");
    }
}
