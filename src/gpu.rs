//! NVIDIA GPUs by name, and their compute capabilities; and what a driver tells of those that are here.
//!
//! Names are compared without what people and drivers add to them: case, spaces and dashes; the words
//! NVIDIA, GeForce, Tesla, Generation, Edition, Laptop, Mobile, Max-Q and the like; form factors (SXM,
//! PCIe, NVL) and memory sizes. `RTX3090`, `rtx-3090` and `NVIDIA GeForce RTX 3090 Laptop GPU` are one
//! name: no GPU of the table has another compute capability as a laptop part than on the desktop.
//!
//! A name that means several GPUs of different capability is not found, and [`nearest_names`] gives the
//! candidates: `RTX 6000` is a Quadro RTX 6000 (`sm_75`) or an RTX 6000 Ada (`sm_89`), and an engine for
//! the wrong one does not load.
//!
//! `A10` is the data centre card; `Orin`, `Xavier` and `Thor` are the Jetson modules.

mod local;
mod model;

pub use local::{LocalGpu, driver_version, uuid_text};
pub use model::{is_model, model};

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A compute capability, written `sm_86`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sm(pub u32);

impl fmt::Display for Sm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}", self.0)
    }
}

/// The text is not of the form `sm_86`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a compute capability: the form is `sm_86`")]
pub struct ParseSmError(String);

impl FromStr for Sm {
    type Err = ParseSmError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseSmError(text.chars().take(80).collect());
        let digits = text.strip_prefix("sm_").ok_or_else(bad)?;
        let plain = matches!(digits.len(), 2 | 3) && digits.bytes().all(|b| b.is_ascii_digit());
        if !plain || digits.starts_with('0') {
            return Err(bad());
        }
        digits.parse().map(Sm).map_err(|_| bad())
    }
}

impl Serialize for Sm {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sm {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A GPU of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its name as NVIDIA writes it, without "NVIDIA GeForce".
    pub name: &'static str,
    /// Its compute capability.
    pub sm: Sm,
}

/// The table, by compute capability. The first names of a capability are the best known ones.
const GPUS: &[(u32, &[&str])] = &[
    (53, &["Jetson Nano"]),
    (60, &["P100"]),
    (
        61,
        &[
            "GTX 1080 Ti",
            "GTX 1080",
            "GTX 1070 Ti",
            "GTX 1070",
            "GTX 1060",
            "GTX 1050 Ti",
            "GTX 1050",
            "P40",
            "P4",
        ],
    ),
    (62, &["Jetson TX2"]),
    (70, &["V100", "TITAN V", "Quadro GV100"]),
    (72, &["Jetson AGX Xavier", "Jetson Xavier NX", "Jetson Xavier"]),
    (
        75,
        &[
            "T4",
            "RTX 2080 Ti",
            "GTX 1660 Ti",
            "RTX 2060",
            "RTX 2060 SUPER",
            "RTX 2070",
            "RTX 2070 SUPER",
            "RTX 2080",
            "RTX 2080 SUPER",
            "TITAN RTX",
            "GTX 1630",
            "GTX 1650",
            "GTX 1650 SUPER",
            "GTX 1650 Ti",
            "GTX 1660",
            "GTX 1660 SUPER",
            "MX450",
            "MX550",
            "Quadro RTX 3000",
            "Quadro RTX 4000",
            "Quadro RTX 5000",
            "Quadro RTX 6000",
            "Quadro RTX 8000",
            "T400",
            "T500",
            "T550",
            "T600",
            "T1000",
            "T1200",
            "T2000",
            "T4G",
        ],
    ),
    (80, &["A100", "A30", "A800", "A100X", "A30X"]),
    (
        86,
        &[
            "RTX 3090",
            "RTX 3080",
            "A10",
            "RTX A6000",
            "A40",
            "RTX 2050",
            "RTX 3050",
            "RTX 3050 Ti",
            "RTX 3060",
            "RTX 3060 Ti",
            "RTX 3070",
            "RTX 3070 Ti",
            "RTX 3080 Ti",
            "RTX 3090 Ti",
            "MX570",
            "A2",
            "A10G",
            "A10M",
            "A16",
            "RTX A400",
            "RTX A500",
            "RTX A1000",
            "RTX A2000",
            "RTX A3000",
            "RTX A4000",
            "RTX A4500",
            "RTX A5000",
            "RTX A5500",
        ],
    ),
    (
        87,
        &[
            "Jetson AGX Orin",
            "Jetson Orin NX",
            "Jetson Orin Nano",
            "Jetson Orin Nano Super",
            "Jetson Orin",
            "DRIVE AGX Orin",
        ],
    ),
    (
        89,
        &[
            "RTX 4090",
            "L4",
            "L40S",
            "L40",
            "L2",
            "L20",
            "RTX 4050",
            "RTX 4060",
            "RTX 4060 Ti",
            "RTX 4070",
            "RTX 4070 SUPER",
            "RTX 4070 Ti",
            "RTX 4070 Ti SUPER",
            "RTX 4080",
            "RTX 4080 SUPER",
            "RTX 4090 D",
            "RTX 6000 Ada",
            "RTX 500 Ada",
            "RTX 1000 Ada",
            "RTX 2000 Ada",
            "RTX 3000 Ada",
            "RTX 3500 Ada",
            "RTX 4000 Ada",
            "RTX 4500 Ada",
            "RTX 5000 Ada",
            "RTX 5880 Ada",
        ],
    ),
    (90, &["H100", "H200", "GH200", "H800", "H20"]),
    (100, &["B200", "GB200", "B100"]),
    (103, &["B300", "GB300"]),
    (110, &["Jetson AGX Thor", "Jetson Thor", "Jetson T5000", "Jetson T4000", "DRIVE AGX Thor"]),
    (
        120,
        &[
            "RTX 5090",
            "RTX 5080",
            "RTX PRO 6000 Blackwell",
            "RTX 5050",
            "RTX 5060",
            "RTX 5060 Ti",
            "RTX 5070",
            "RTX 5070 Ti",
            "RTX 5090 D",
            "RTX PRO 500 Blackwell",
            "RTX PRO 1000 Blackwell",
            "RTX PRO 2000 Blackwell",
            "RTX PRO 3000 Blackwell",
            "RTX PRO 4000 Blackwell",
            "RTX PRO 4500 Blackwell",
            "RTX PRO 5000 Blackwell",
        ],
    ),
    (121, &["GB10", "DGX Spark"]),
];

/// Words of a name that do not tell GPUs of different capability apart.
const NOISE: &[&str] = &[
    "nvidia",
    "geforce",
    "tesla",
    "jetson",
    "gpu",
    "generation",
    "edition",
    "laptop",
    "mobile",
    "with",
    "max",
    "q",
    "maxq",
    "design",
    "blackwell",
    "workstation",
    "server",
    "active",
    "sff",
    "superchip",
    "developer",
    "kit",
    "pcie",
    "hbm2",
    "hbm2e",
    "hbm3",
    "hbm3e",
    "sxm",
    "sxm2",
    "sxm3",
    "sxm4",
    "sxm5",
    "sxm6",
    "grace",
    "hopper",
    "nvl",
    "nvl72",
];

fn all() -> impl Iterator<Item = Gpu> {
    GPUS.iter().flat_map(|(sm, names)| names.iter().map(|name| Gpu { name, sm: Sm(*sm) }))
}

/// What two spellings of one GPU have in common.
fn key(name: &str) -> String {
    let name = name.to_lowercase();
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| {
        let memory =
            word.strip_suffix("gb").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        !memory && !NOISE.contains(word)
    });
    let mut key: String = words.collect();
    // Names written without any space: `GeForceRTX3090`.
    for prefix in ["nvidia", "geforce"] {
        if let Some(rest) = key.strip_prefix(prefix) {
            key = rest.to_owned();
        }
    }
    key
}

/// The GPU of this name.
#[must_use]
pub fn find(name: &str) -> Option<Gpu> {
    let wanted = key(name);
    let of = |wanted: &str| all().find(|gpu| key(gpu.name) == wanted);
    // People go on writing "Quadro" before names that have lost it, such as RTX A6000.
    of(&wanted).or_else(|| of(wanted.strip_prefix("quadro")?))
}

/// Up to four names that may have been meant, the likeliest first.
#[must_use]
pub fn nearest_names(name: &str) -> Vec<&'static str> {
    let wanted = key(&name.chars().take(80).collect::<String>());
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut near: Vec<(usize, usize, &'static str)> = all()
        .enumerate()
        .filter_map(|(place, gpu)| {
            let key = key(gpu.name);
            // `RTX 6000` is inside `Quadro RTX 6000` and `RTX 6000 Ada`; `4090` is inside `RTX 4090`.
            let inside =
                wanted.len() >= 3 && (key.contains(&wanted) || (key.len() >= 3 && wanted.contains(&key)));
            let distance = if inside { 0 } else { strsim::damerau_levenshtein(&wanted, &key) };
            (distance <= wanted.chars().count() / 4).then_some((distance, place, gpu.name))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().map(|(_, _, name)| name).take(4).collect()
}

/// Up to three well-known GPUs of this capability; empty if none is known.
#[must_use]
pub fn examples(sm: Sm) -> Vec<&'static str> {
    all().filter(|gpu| gpu.sm == sm).map(|gpu| gpu.name).take(3).collect()
}

/// What is worth knowing of this capability.
#[must_use]
pub fn note(sm: Sm) -> Option<&'static str> {
    match sm.0 {
        101 => Some("CUDA 12 calls Thor `sm_101`; from CUDA 13 on, and here, it is `sm_110`"),
        110 => Some("`sm_110` is called `sm_101` by CUDA 12"),
        _ => None,
    }
}

/// Every capability of the table, ascending.
#[must_use]
pub fn known_sms() -> BTreeSet<Sm> {
    all().map(|gpu| gpu.sm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_people_and_drivers_are_understood() {
        for (name, sm) in [
            ("RTX 3090", 86),
            ("RTX3090", 86),
            ("rtx-3090", 86),
            ("GeForceRTX3090", 86),
            ("NVIDIA GeForce RTX 3090", 86),
            ("NVIDIA GeForce RTX 3070 Ti Laptop GPU", 86),
            ("NVIDIA GeForce RTX 2070 with Max-Q Design", 75),
            ("NVIDIA GeForce RTX 2050", 86),
            ("GTX 1660 SUPER", 75),
            ("Tesla T4", 75),
            ("NVIDIA A100-SXM4-80GB", 80),
            ("NVIDIA A100 80GB PCIe", 80),
            ("NVIDIA H100 80GB HBM3", 90),
            ("NVIDIA H100 NVL", 90),
            ("NVIDIA GH200 480GB", 90),
            ("NVIDIA RTX A2000 12GB", 86),
            ("NVIDIA RTX 6000 Ada Generation", 89),
            ("NVIDIA RTX 4000 SFF Ada Generation", 89),
            ("Quadro RTX 6000", 75),
            ("Quadro T1000", 75),
            ("Quadro RTX A6000", 86),
            ("NVIDIA GH200 Grace Hopper Superchip", 90),
            ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 120),
            ("NVIDIA L40S", 89),
            ("NVIDIA B200", 100),
            ("B300", 103),
            ("NVIDIA GB10", 121),
            ("Orin", 87),
            ("Jetson AGX Orin Developer Kit", 87),
            ("Jetson Thor", 110),
            ("Jetson AGX Xavier", 72),
        ] {
            assert_eq!(find(name).map(|gpu| gpu.sm), Some(Sm(sm)), "{name}");
        }
    }

    #[test]
    fn a_name_finds_itself_and_no_other() {
        let mut keys = BTreeSet::new();
        for gpu in all() {
            assert_eq!(find(gpu.name), Some(gpu));
            assert!(keys.insert(key(gpu.name)), "`{}` hides another GPU", gpu.name);
            assert!(gpu.sm.to_string().parse::<Sm>().is_ok());
        }
    }

    #[test]
    fn unknown_and_ambiguous_names_give_candidates() {
        assert_eq!(find("RTX 6000"), None);
        assert_eq!(nearest_names("RTX 6000")[..2], ["Quadro RTX 6000", "RTX 6000 Ada"]);
        assert_eq!(nearest_names("RTX 3o90").first(), Some(&"RTX 3090"));
        assert_eq!(nearest_names("4090")[..1], ["RTX 4090"]);
        assert!(nearest_names("RTX 3095").contains(&"RTX 3090"));
        assert!(nearest_names("Radeon RX 7900").is_empty());
        assert!(nearest_names("").is_empty() && find("").is_none() && find("NVIDIA").is_none());
        assert!(nearest_names(&"x".repeat(1 << 20)).is_empty());
    }

    #[test]
    fn examples_are_the_best_known() {
        assert_eq!(examples(Sm(86)), ["RTX 3090", "RTX 3080", "A10"]);
        assert!(examples(Sm(42)).is_empty());
    }
}
