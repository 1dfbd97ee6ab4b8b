//! TOML to a valid [`Manifest`].
//!
//! Three steps, each with types of its own: *as written* (typed, with the place of everything, names not
//! resolved), *normalized* (layers merged, every default explicit), *valid* ([`Manifest`]). Every mistake
//! of every file becomes a diagnostic in one run; nothing here stops at the first. Knows no ONNX, no
//! toolchain's abilities and no environment: what those say of a manifest is the planner's to check.
//!
//! # Merge order
//! Of what decides one engine `MODEL[.VARIANT]@TARGET`, later layers win:
//!
//! | layer | written |
//! |---|---|
//! | 1 | `[defaults]` |
//! | 2 | `[defaults.on.TARGET]` |
//! | 3 | `[model.MODEL]` or the `[models.X]` whose glob matched |
//! | 4 | `[model.MODEL.variant.VARIANT]` |
//! | 5 | `[model.MODEL.on.TARGET]` |
//! | 6 | `[model.MODEL.variant.VARIANT.on.TARGET]` |
//!
//! | what | how it merges |
//! |---|---|
//! | `opset`, `precision`, `tf32`, single keys of `verify` | replaced |
//! | `targets`, `fuse`, `rules` (lists) | replaced as a whole |
//! | `[[profile]]` | replaced as a whole list: the order is TensorRT's index |
//! | `[[rule]]` | appended, those of earlier layers first; all come after the sets in `rules` |
//! | `build`, `io`, `hazards`, `verify.tolerance`, `verify.tolerance.OUTPUT`, `verify.ignore-where` (tables) | by key |
//!
//! `source` belongs to a model alone; `targets` to layers 1, 3 and 4. For the root of a toolchain, the
//! environment variable wins over `enginewright.local.toml`, and that over the manifest.

mod codes;
mod edit;
mod fields;
mod glob;
mod hazards;
mod load;
mod model;
mod normalize;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod trtexec;
mod validate;
mod written;

pub use codes::CODES;
pub use edit::{EditError, NewRule, TUNED, write_rules};
pub use hazards::{HAZARDS, Hazard, HazardLevel, hazard};
pub use load::{Error, Loaded, Options, find_root, load, read_alone};
pub use model::{
    BuildOptions, Condition, Engine, EngineName, Fill, Fuse, IoType, Manifest, OpsetRequirement, Precision,
    Profile, Profiling, Publish, Range, RawTensor, Require, Rule, Selector, Source, Target, Tiling,
    Toolchain, ToolchainKind, Verify, VerifyInputs, WORKSPACE_MAX,
};
pub use text::{check_name, glob_of, parse_size, toml_key};
pub use trtexec::{GpuIdentity, HardwareCompatibility, TrtexecOptions, Typing};

/// The toolchain that exists without being declared, and that a target has if it names none.
pub const BUILT_IN_TOOLCHAIN: &str = "rtx";

/// The version of TensorRT-RTX that is fetched when a manifest names none.
pub const DEFAULT_TENSORRT_RTX_VERSION: &str = "1.7.1.116";

/// The toolchain that computes the reference of a verification that names none; it exists without being declared.
pub const BUILT_IN_REFERENCE: &str = "reference";

/// The version of ONNX Runtime that is fetched when a manifest names none.
pub const DEFAULT_ONNXRUNTIME_VERSION: &str = "1.31.1";
