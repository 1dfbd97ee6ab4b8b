//! What a driver tells of the GPUs of this machine.

use serde::{Deserialize, Serialize};

use super::Sm;

/// A GPU of this machine, as its driver describes it. `worker::local_gpus` asks for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalGpu {
    /// Its name, as the driver writes it: `NVIDIA GeForce RTX 3090`.
    pub name: String,
    /// Its compute capability.
    pub sm: Sm,
    /// Its memory, in bytes.
    pub memory: u64,
    /// `GPU-` and its 16 bytes in hex, as `nvidia-smi -L` writes it.
    pub uuid: String,
    /// Version of the driver, such as `570.86.10`; none where the system does not tell it.
    pub driver: Option<String>,
    /// The newest CUDA that the driver serves, such as `12.8`.
    pub cuda: String,
}

/// A UUID as `nvidia-smi` writes it.
#[must_use]
pub fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = "GPU".to_owned();
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}

/// The version in `/proc/driver/nvidia/version`: the first number with a dot in its first line.
#[must_use]
pub fn driver_version(text: &str) -> Option<String> {
    let is_version =
        |word: &&str| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_grouped() {
        let bytes = std::array::from_fn(|i| u8::try_from(i).unwrap() * 16);
        assert_eq!(uuid_text(bytes), "GPU-00102030-4050-6070-8090-a0b0c0d0e0f0");
    }

    #[test]
    fn the_drivers_version_is_found_in_both_spellings() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version: 12.3.0";
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build  (root@x)";
        assert_eq!(driver_version(closed).as_deref(), Some("535.183.01"));
        assert_eq!(driver_version(open).as_deref(), Some("570.86.10"));
        assert_eq!(driver_version(""), None);
    }
}
