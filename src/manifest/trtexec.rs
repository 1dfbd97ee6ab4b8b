//! Build options that full TensorRT has and TensorRT-RTX does not.

use std::path::PathBuf;

/// An enum whose variants have words in manifests.
macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them, by their words.
            pub(super) const WORDS: &[(&str, $name)] = &[$(($word, $name::$variant)),*];

            /// As written in manifests.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }
    };
}

word_enum! {
    /// How the types of nodes reach TensorRT.
    Typing {
        /// Strong from 10.0, weak before, and for DLA.
        Auto = "auto",
        /// Types asked of layers, by name.
        Weak = "weak",
        /// Types in the ONNX.
        Strong = "strong",
    }
}

word_enum! {
    /// On which other GPUs an engine runs.
    HardwareCompatibility {
        /// On those of its own kind.
        None = "none",
        /// On Ampere and newer.
        AmperePlus = "ampere-plus",
        /// On those of its compute capability.
        SameComputeCapability = "same-compute-capability",
    }
}

word_enum! {
    /// What of the GPU that builds an engine decides it.
    GpuIdentity {
        /// Its model, such as `RTX 3090`: tactics are timed on it.
        Model = "model",
        /// Its compute capability.
        Sm = "sm",
        /// That it is of Ampere or newer.
        AmperePlus = "ampere-plus",
    }
}

/// Options of `trtexec` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrtexecOptions {
    /// Default `auto`.
    pub typing: Typing,
    /// Default `none`.
    pub hardware_compatibility: HardwareCompatibility,
    /// Runs on newer TensorRT too. Default false.
    pub version_compatible: bool,
    /// Weights are put in later. Default false.
    pub strip_weights: bool,
    /// Weights can be changed later. Default false.
    pub refit: bool,
    /// `+NAME` or `-NAME`; none leaves it to TensorRT.
    pub tactic_sources: Vec<String>,
    /// The core to build for, if it is for DLA.
    pub dla_core: Option<u32>,
    /// May what DLA does not do run on the GPU? Default false.
    pub dla_gpu_fallback: bool,
    /// Plugin libraries. Absolute.
    pub plugins: Vec<PathBuf>,
    /// Memory formats of all inputs in their order, such as `chw` or `chw16+chw32`; none for `chw`.
    pub input_formats: Vec<String>,
    /// Memory formats of all outputs in their order.
    pub output_formats: Vec<String>,
    /// What is given to trtexec as it is.
    pub extra_args: Vec<String>,
}

impl Default for TrtexecOptions {
    fn default() -> Self {
        TrtexecOptions {
            typing: Typing::Auto,
            hardware_compatibility: HardwareCompatibility::None,
            version_compatible: false,
            strip_weights: false,
            refit: false,
            tactic_sources: Vec::new(),
            dla_core: None,
            dla_gpu_fallback: false,
            plugins: Vec::new(),
            input_formats: Vec::new(),
            output_formats: Vec::new(),
            extra_args: Vec::new(),
        }
    }
}

impl TrtexecOptions {
    /// The keys that are not what they are by default, as manifests write them.
    #[must_use]
    pub fn given(&self) -> Vec<&'static str> {
        // Destructured, so that a new option cannot be forgotten here.
        let TrtexecOptions {
            typing,
            hardware_compatibility,
            version_compatible,
            strip_weights,
            refit,
            tactic_sources,
            dla_core,
            dla_gpu_fallback,
            plugins,
            input_formats,
            output_formats,
            extra_args,
        } = self;
        let all = [
            ("typing", *typing != Typing::Auto),
            ("hardware-compatibility", *hardware_compatibility != HardwareCompatibility::None),
            ("version-compatible", *version_compatible),
            ("strip-weights", *strip_weights),
            ("refit", *refit),
            ("tactic-sources", !tactic_sources.is_empty()),
            ("dla-core", dla_core.is_some()),
            ("dla-gpu-fallback", *dla_gpu_fallback),
            ("plugins", !plugins.is_empty()),
            ("input-formats", !input_formats.is_empty()),
            ("output-formats", !output_formats.is_empty()),
            ("extra-args", !extra_args.is_empty()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
    }
}
