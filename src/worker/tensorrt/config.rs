//! Builder options. Each is set, also where the library's default would be the same today.

use trtx_sys::{BuilderFlag, ComputeCapability, MemoryPoolType, ProfilingVerbosity, TilingOptimizationLevel};

use super::super::protocol::Options;
use super::builder::Builder;
use super::{Result, SUPPORTED_SMS, refuse};

/// Options that were checked.
pub(super) struct Settings {
    workspace: usize,
    optimization_level: i32,
    profiling: ProfilingVerbosity,
    tiling: TilingOptimizationLevel,
    max_aux_streams: Option<i32>,
    /// Every flag that is ours to decide, on or off.
    flags: [(BuilderFlag, bool); 5],
}

impl Settings {
    /// Checks options before they become numbers of C++.
    pub(super) fn of(options: &Options) -> Result<Settings> {
        Ok(Settings {
            workspace: workspace(options.workspace)?,
            optimization_level: level(options.optimization_level)?,
            profiling: profiling(&options.profiling)?,
            tiling: tiling(&options.tiling)?,
            max_aux_streams: options.max_aux_streams.map(streams).transpose()?,
            flags: [
                (BuilderFlag::kTF32, options.tf32),
                (BuilderFlag::kWEIGHT_STREAMING, options.weight_streaming),
                (BuilderFlag::kSTRICT_NANS, options.strict_nans),
                (BuilderFlag::kSPARSE_WEIGHTS, options.sparse_weights),
                (BuilderFlag::kDISTRIBUTIVE_INDEPENDENCE, options.distributive_independence),
            ],
        })
    }
}

fn bad_option<T>(key: &str, value: impl std::fmt::Display) -> Result<T> {
    refuse("options", "bad-option", format!("`{key}` cannot be `{value}`"))
}

fn workspace(value: u64) -> Result<usize> {
    match usize::try_from(value) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => bad_option("workspace", value),
    }
}

fn level(value: u32) -> Result<i32> {
    match i32::try_from(value) {
        Ok(level @ 0..=5) => Ok(level),
        _ => bad_option("optimization-level", value),
    }
}

fn streams(value: u32) -> Result<i32> {
    i32::try_from(value).or_else(|_| bad_option("max-aux-streams", value))
}

fn profiling(value: &str) -> Result<ProfilingVerbosity> {
    match value {
        "none" => Ok(ProfilingVerbosity::kNONE),
        "layer-names" => Ok(ProfilingVerbosity::kLAYER_NAMES_ONLY),
        "detailed" => Ok(ProfilingVerbosity::kDETAILED),
        other => bad_option("profiling", other),
    }
}

fn tiling(value: &str) -> Result<TilingOptimizationLevel> {
    match value {
        "none" => Ok(TilingOptimizationLevel::kNONE),
        "fast" => Ok(TilingOptimizationLevel::kFAST),
        "moderate" => Ok(TilingOptimizationLevel::kMODERATE),
        "full" => Ok(TilingOptimizationLevel::kFULL),
        other => bad_option("tiling", other),
    }
}

/// Compute capabilities as TensorRT's enum. Anything else than its values must not reach it.
pub(super) fn compute_capabilities(sms: &[u32]) -> Result<Vec<ComputeCapability>> {
    if sms.is_empty() {
        return refuse("options", "sm-missing", "no compute capability is asked for");
    }
    let mut known = Vec::new();
    for (i, sm) in sms.iter().enumerate() {
        if sms[..i].contains(sm) {
            return refuse("options", "sm-twice", format!("sm_{sm} is asked for twice"));
        }
        known.push(match sm {
            75 => ComputeCapability::kSM75,
            80 => ComputeCapability::kSM80,
            86 => ComputeCapability::kSM86,
            89 => ComputeCapability::kSM89,
            120 => ComputeCapability::kSM120,
            121 => ComputeCapability::kSM121,
            _ => {
                let known: Vec<String> = SUPPORTED_SMS.iter().map(|sm| format!("sm_{sm}")).collect();
                let message =
                    format!("TensorRT-RTX does not build for sm_{sm}, only for {}", known.join(", "));
                return refuse("options", "sm-unsupported", message);
            }
        });
    }
    Ok(known)
}

/// Sets everything.
pub(super) fn apply(builder: &mut Builder, sms: &[ComputeCapability], settings: &Settings) -> Result<()> {
    let rejected = |what: String| refuse("options", "option-rejected", format!("the library rejects {what}"));

    let count = i32::try_from(sms.len()).unwrap_or(i32::MAX);
    let taken = builder.config().setNbComputeCapabilities(count)
        && (0..).zip(sms).all(|(i, sm)| builder.config().setComputeCapability((*sm).into(), i));
    if !taken {
        let names: Vec<String> = sms.iter().map(|sm| format!("sm_{}", *sm as i32)).collect();
        let message = format!("this version of the library does not build for {} together", names.join(", "));
        return refuse("options", "sm-unsupported", message);
    }

    builder.config().setMemoryPoolLimit(MemoryPoolType::kWORKSPACE.into(), settings.workspace);
    builder.config().setBuilderOptimizationLevel(settings.optimization_level);
    builder.config().setProfilingVerbosity(settings.profiling.into());
    if !builder.config().setTilingOptimizationLevel(settings.tiling.into()) {
        return rejected(format!("the tiling level {:?}", settings.tiling));
    }
    if let Some(streams) = settings.max_aux_streams
        && !builder.config().setMaxAuxStreams(streams)
    {
        return rejected(format!("{streams} auxiliary streams"));
    }
    for (flag, on) in settings.flags {
        if on {
            builder.config().setFlag(flag.into());
        } else {
            builder.config().clearFlag(flag.into());
        }
        if builder.config().getFlag(flag.into()) != on {
            return rejected(format!("the flag {flag:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            workspace: 4 << 30,
            tf32: false,
            optimization_level: 3,
            profiling: "layer-names".into(),
            weight_streaming: false,
            strict_nans: false,
            sparse_weights: false,
            distributive_independence: false,
            max_aux_streams: None,
            tiling: "none".into(),
        }
    }

    #[test]
    fn every_supported_sm_is_known_to_the_binding() {
        let known = compute_capabilities(&SUPPORTED_SMS).unwrap();
        assert!(known.iter().zip(SUPPORTED_SMS).all(|(known, sm)| *known as i32 == sm as i32));
    }

    #[test]
    fn other_sms_are_refused() {
        let code = |sms: &[u32]| compute_capabilities(sms).unwrap_err().code;
        assert_eq!(code(&[90]), "sm-unsupported");
        assert_eq!(code(&[86, u32::MAX]), "sm-unsupported");
        assert_eq!(code(&[86, 86]), "sm-twice");
        assert_eq!(code(&[]), "sm-missing");
    }

    #[test]
    fn options_out_of_range_are_refused() {
        assert!(Settings::of(&options()).is_ok());
        let refused = |change: fn(&mut Options)| {
            let mut options = options();
            change(&mut options);
            Settings::of(&options).err().map(|refusal| refusal.message).unwrap_or_default()
        };
        assert_eq!(refused(|o| o.workspace = 0), "`workspace` cannot be `0`");
        assert_eq!(refused(|o| o.optimization_level = 6), "`optimization-level` cannot be `6`");
        assert_eq!(
            refused(|o| o.max_aux_streams = Some(u32::MAX)),
            "`max-aux-streams` cannot be `4294967295`"
        );
        assert_eq!(refused(|o| o.profiling = "loud".into()), "`profiling` cannot be `loud`");
        assert_eq!(refused(|o| o.tiling = String::new()), "`tiling` cannot be ``");
    }
}
