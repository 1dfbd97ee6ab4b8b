//! TOML to a valid [`Manifest`].

mod model;

pub use model::{
    BuildOptions, Engine, EngineName, Fuse, IoType, Manifest, OpsetRequirement, Precision, Profile,
    Profiling, Range, Rule, Selector, Source, Target, Tiling, Toolchain, ToolchainKind, Verify, VerifyInputs,
};
