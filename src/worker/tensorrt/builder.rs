//! The objects of one build, and calls to them.

use std::ffi::{c_int, c_void};
use std::pin::Pin;

use trtx_sys::nvinfer1::{IBuilder, IBuilderConfig, IHostMemory, INetworkDefinition, IOptimizationProfile};

use super::library::Libraries;
use super::log::Log;
use super::{Result, refuse};

/// A builder with one network and one configuration.
///
/// Invariant: the pointers are not null, and what they point to is never destroyed.
pub(super) struct Builder {
    builder: *mut IBuilder,
    network: *mut INetworkDefinition,
    config: *mut IBuilderConfig,
}

impl Builder {
    /// Makes the objects.
    #[expect(unsafe_code, reason = "TensorRT's entry point is a C function")]
    pub(super) fn new(libraries: &Libraries, log: &'static Log) -> Result<Builder> {
        type Create = unsafe extern "C" fn(*mut c_void, i32) -> *mut IBuilder;
        let logger = log.interface();
        if logger.is_null() {
            return refuse("load", "out-of-memory", "no memory for the logger");
        }
        // SAFETY: the function's type in the headers of the binding; the version is theirs, and a
        // library that does not serve it returns null.
        let builder = unsafe {
            let create = libraries.builder_function::<Create>("createInferBuilder_INTERNAL")?;
            create(logger, header_version(trtx_sys::get_tensorrt_version()))
        };
        if builder.is_null() {
            return refuse("load", "builder-refused", "the library made no builder");
        }
        let mut this = Builder { builder, network: std::ptr::null_mut(), config: std::ptr::null_mut() };
        // One thread: with more, the order of their work reaches the engine's bytes. And builds run
        // side by side in processes of their own.
        if !this.builder().setMaxThreads(1) {
            return refuse("load", "builder-refused", "the builder does not take one thread");
        }
        // Strongly typed is the only kind of network there is; it is said all the same.
        let flags = 1 << (trtx_sys::nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED as u32);
        this.network = this.builder().createNetworkV2(flags);
        this.config = this.builder().createBuilderConfig();
        if this.network.is_null() || this.config.is_null() {
            return refuse("load", "builder-refused", "the builder made no network");
        }
        Ok(this)
    }

    #[expect(unsafe_code, reason = "C++ objects are called through pointers")]
    fn builder(&mut self) -> Pin<&mut IBuilder> {
        // SAFETY: see the invariant. C++ objects do not move, and one thread calls them; no two of
        // these references to one object live at once, since each borrows `self` for one call.
        unsafe { Pin::new_unchecked(&mut *self.builder) }
    }

    /// The configuration, for one call.
    #[expect(unsafe_code, reason = "C++ objects are called through pointers")]
    pub(super) fn config(&mut self) -> Pin<&mut IBuilderConfig> {
        // SAFETY: as for `builder`.
        unsafe { Pin::new_unchecked(&mut *self.config) }
    }

    /// The network, for one call.
    #[expect(unsafe_code, reason = "C++ objects are called through pointers")]
    pub(super) fn network(&mut self) -> Pin<&mut INetworkDefinition> {
        // SAFETY: as for `builder`.
        unsafe { Pin::new_unchecked(&mut *self.network) }
    }

    /// A new profile, which belongs to the builder.
    pub(super) fn new_profile(&mut self) -> *mut IOptimizationProfile {
        self.builder().createOptimizationProfile()
    }

    /// Compiles the network. The reasons of a failure stand in the log alone, so that the refusal
    /// has no code yet.
    #[expect(unsafe_code, reason = "TensorRT gives bare memory")]
    pub(super) fn build(&mut self) -> Result<&'static [u8]> {
        // SAFETY: as for `builder`; these are three objects.
        let memory: *mut IHostMemory = unsafe {
            let (network, config) = (&mut *self.network, &mut *self.config);
            Pin::new_unchecked(&mut *self.builder)
                .buildSerializedNetwork(Pin::new_unchecked(network), Pin::new_unchecked(config))
        };
        if memory.is_null() {
            return refuse("build", "", "");
        }
        // SAFETY: not null, and never destroyed; the memory is not written any more.
        unsafe {
            let memory = &*memory;
            let (data, size) = (memory.data() as *const u8, memory.size());
            if data.is_null() || size == 0 {
                return refuse("build", "engine-empty", "the library built an engine of no bytes");
            }
            Ok(std::slice::from_raw_parts(data, size))
        }
    }
}

/// A version of the headers, as the entry points take it.
pub(in crate::worker) fn header_version(version: u32) -> c_int {
    c_int::try_from(version).unwrap_or(c_int::MAX)
}
