//! GPUs of one name that kernels are timed differently on.
//!
//! A compute capability does not tell them apart, and neither does [`find`](super::find); a driver's name does, mostly:
//!
//! | words | told apart |
//! |---|---|
//! | Laptop, Mobile; Max-Q; SFF | always: they are other chips, or other clocks, under the name of a desktop GPU. Not to say one is to say none |
//! | PCIe, SXM, NVL; memory such as 40GB; Server, Workstation | if the target says one: an `A100` is any, an `A100 80GB` is one with that much |
//!
//! What the driver gives one name (an RTX 3080 with 10 and with 12 GB) is one model.

use std::collections::BTreeSet;

use super::find;

/// What is left of the words of a name that says which of several GPUs it is.
#[derive(Debug, PartialEq, Eq)]
struct Variant {
    /// Where none is none.
    always: BTreeSet<&'static str>,
    /// Where none is any.
    if_said: BTreeSet<String>,
}

fn variant(name: &str) -> Variant {
    let name = name.to_lowercase().replace("max-q", "maxq");
    let (mut always, mut if_said) = (BTreeSet::new(), BTreeSet::new());
    for word in name.split(|c: char| !c.is_alphanumeric()) {
        let gigabytes =
            word.strip_suffix("gb").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        match word {
            "laptop" | "mobile" => drop(always.insert("Laptop")),
            "maxq" => drop(always.insert("Max-Q")),
            "sff" => drop(always.insert("SFF")),
            "pcie" => drop(if_said.insert("PCIe".to_owned())),
            "server" => drop(if_said.insert("Server".to_owned())),
            "workstation" => drop(if_said.insert("Workstation".to_owned())),
            // NVIDIA H100 80GB HBM3: the driver does not say SXM of those that are.
            "hbm3" | "hbm3e" => drop(if_said.insert("SXM".to_owned())),
            _ if word.starts_with("sxm") => drop(if_said.insert("SXM".to_owned())),
            _ if word.starts_with("nvl") => drop(if_said.insert("NVL".to_owned())),
            _ if gigabytes => drop(if_said.insert(word.to_uppercase())),
            _ => {}
        }
    }
    if if_said.contains("NVL") {
        if_said.remove("SXM");
    }
    Variant { always, if_said }
}

/// A GPU by the name of the table and the words that tell it apart from others of that name: `A100 80GB SXM`, `RTX 3080
/// Laptop`. It is found by what it gives.
#[must_use]
pub fn model(name: &str) -> Option<String> {
    let found = find(name)?;
    let Variant { always, if_said } = variant(name);
    let words = std::iter::once(found.name).chain(always).chain(if_said.iter().map(String::as_str));
    Some(words.collect::<Vec<_>>().join(" "))
}

/// Is a GPU, by its driver's name, of a model as [`model`] gives it?
#[must_use]
pub fn is_model(local: &str, wanted: &str) -> bool {
    let (here, asked) = (variant(local), variant(wanted));
    find(local).is_some_and(|found| Some(found) == find(wanted))
        && here.always == asked.always
        && asked.if_said.is_subset(&here.if_said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_drivers_become_models_that_find_themselves() {
        for (name, expected) in [
            ("NVIDIA GeForce RTX 3090", "RTX 3090"),
            ("NVIDIA GeForce RTX 3080 Laptop GPU", "RTX 3080 Laptop"),
            ("NVIDIA GeForce RTX 2070 with Max-Q Design", "RTX 2070 Max-Q"),
            ("NVIDIA A100-SXM4-80GB", "A100 80GB SXM"),
            ("NVIDIA A100-PCIE-40GB", "A100 40GB PCIe"),
            ("A100 80GB PCIe", "A100 80GB PCIe"),
            ("NVIDIA H100 80GB HBM3", "H100 80GB SXM"),
            ("NVIDIA H100 NVL", "H100 NVL"),
            ("NVIDIA RTX 4000 SFF Ada Generation", "RTX 4000 Ada SFF"),
            (
                "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
                "RTX PRO 6000 Blackwell Max-Q Workstation",
            ),
        ] {
            assert_eq!(model(name).as_deref(), Some(expected), "{name}");
            assert_eq!(model(expected).as_deref(), Some(expected));
            assert!(is_model(name, expected), "{name}");
        }
        assert_eq!(model("Radeon"), None);
    }

    #[test]
    fn a_laptop_is_no_desktop_and_an_a100_is_any() {
        for (local, wanted, fits) in [
            ("NVIDIA GeForce RTX 3080 Laptop GPU", "RTX 3080", false),
            ("NVIDIA GeForce RTX 3080", "RTX 3080 Laptop", false),
            ("NVIDIA GeForce RTX 3080 Laptop GPU", "RTX 3080 Laptop", true),
            ("NVIDIA GeForce RTX 3080 Ti", "RTX 3080", false),
            ("NVIDIA A100-SXM4-80GB", "A100", true),
            ("NVIDIA A100-PCIE-40GB", "A100", true),
            ("NVIDIA A100-PCIE-40GB", "A100 80GB SXM", false),
            ("NVIDIA A100-SXM4-80GB", "A100 80GB", true),
            ("NVIDIA A100 80GB PCIe", "A100 SXM", false),
            ("NVIDIA H100 PCIe", "H100 SXM", false),
            ("NVIDIA H100 80GB HBM3", "H100 SXM", true),
            ("NVIDIA H200", "H100", false),
            ("unknown", "unknown", false),
        ] {
            assert_eq!(is_model(local, wanted), fits, "{local} as {wanted}");
        }
    }
}
