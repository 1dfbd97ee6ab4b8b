//! Which GPUs are here: asked of the NVIDIA driver, in a worker, since a driver that is half installed can hang or
//! crash whoever asks.

use std::ffi::{OsStr, c_char, c_int, c_uint};
use std::path::Path;
use std::time::Duration;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::client::{CancelToken, Client, Limits};
use super::error::WorkerError;
use super::protocol::{Refusal, Request, Response};
use crate::diagnostic::Diagnostic;
use crate::gpu::{LocalGpu, Sm, driver_version, uuid_text};

/// The driver's library: by its name, then where containers, WSL and hosted notebooks put it beside the loader's way.
const LIBRARIES: [&str; 4] = [
    "libcuda.so.1",
    "/usr/local/nvidia/lib64/libcuda.so.1",
    "/usr/lib/wsl/lib/libcuda.so.1",
    "/usr/lib64-nvidia/libcuda.so.1",
];

/// Variables that decide which GPUs the driver shows, and where it is.
const PASSED_ON: [&str; 3] = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LD_LIBRARY_PATH"];

/// A driver that starts its daemon takes seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why no GPU is known.
#[derive(Debug, thiserror::Error)]
pub enum NoGpus {
    /// There is no driver (`no-driver`), it shows no GPU (`no-gpu`), or it fails (`driver-failed`).
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// The driver crashed, or hung.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

impl From<NoGpus> for Diagnostic {
    fn from(error: NoGpus) -> Diagnostic {
        match error {
            NoGpus::Refused(refusal) => {
                Diagnostic { help: refusal.help, ..Diagnostic::error(refusal.code, refusal.message) }
            }
            NoGpus::Worker(error) => {
                let diagnostic =
                    Diagnostic::error(error.code(), format!("asking the NVIDIA driver: {error}"));
                diagnostic.help("`nvidia-smi` shows if the driver works at all")
            }
        }
    }
}

/// The GPUs of this machine, in the driver's order; at least one. `env` is the environment of the user, of which the
/// variables that the driver looks at are passed on.
pub fn local_gpus(
    client: &Client,
    env: &[(String, String)],
    cancel: &CancelToken,
) -> Result<Vec<LocalGpu>, NoGpus> {
    let env = env.iter().filter(|(name, _)| PASSED_ON.contains(&name.as_str())).cloned().collect();
    let limits = Limits { timeout: TIMEOUT, memory: None, env };
    // It reads and writes no files, so any folder will do.
    match client.run(Path::new("/"), &Request::Gpus, &limits, cancel)?.response {
        Response::Gpus(gpus) => Ok(gpus),
        Response::Refused(refusal) => Err(NoGpus::Refused(refusal)),
        other => {
            let what = format!("another answer than was asked for: {other:?}");
            Err(NoGpus::Worker(WorkerError::Garbage { what, stderr: String::new() }))
        }
    }
}

/// `CUresult` of a machine without a GPU, or with all of them hidden.
const NO_DEVICE: c_int = 100;

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `…_MINOR`.
const CAPABILITY: [c_int; 2] = [75, 76];

/// The functions of the driver that are called: none of them makes a context, so none takes memory of a GPU.
struct Driver {
    library: Library,
}

type Answer<T> = Result<T, Box<Refusal>>;

/// What the driver says.
pub(super) fn ask_driver() -> Answer<Vec<LocalGpu>> {
    let driver = Driver::open()?;
    driver.start()?;
    let cuda = driver.number("cuDriverGetVersion")?;
    let cuda = format!("{}.{}", cuda / 1000, cuda % 1000 / 10);
    let version = ["/proc/driver/nvidia/version", "/sys/module/nvidia/version"]
        .iter()
        .find_map(|file| driver_version(&crate::fs::read_to_string(Path::new(file)).ok()?));
    let count = driver.number("cuDeviceGetCount")?;
    if count == 0 {
        return Err(no_gpu());
    }
    (0..count).map(|ordinal| driver.gpu(ordinal, version.clone(), cuda.clone())).collect()
}

impl Driver {
    #[expect(unsafe_code, reason = "loading a library runs its initializers")]
    fn open() -> Answer<Driver> {
        for name in LIBRARIES {
            // SAFETY: the initializers are the driver's, in a process that exists to run them.
            if let Ok(library) = unsafe { Library::open(Some(OsStr::new(name)), RTLD_NOW | RTLD_LOCAL) } {
                return Ok(Driver { library });
            }
        }
        let message = "there is no NVIDIA driver on this machine: `libcuda.so.1` is not found";
        let refusal = Refusal::new("driver", "no-driver", message)
            .help("engines for TensorRT-RTX are built without a GPU; one is needed only to run them")
            .help("in a container, start it with `--gpus all`; elsewhere, install NVIDIA's driver");
        Err(Box::new(refusal))
    }

    /// `cuInit`.
    fn start(&self) -> Answer<()> {
        type Init = unsafe extern "C" fn(c_uint) -> c_int;
        #[expect(unsafe_code, reason = "calling a C function")]
        let status = {
            // SAFETY: the type of `cuInit`, whose one argument must be 0.
            unsafe { self.function::<Init>("cuInit")?(0) }
        };
        if status == NO_DEVICE { Err(no_gpu()) } else { self.check("cuInit", status) }
    }

    /// What a function says that gives one number.
    fn number(&self, name: &str) -> Answer<c_int> {
        type Number = unsafe extern "C" fn(*mut c_int) -> c_int;
        let mut number = 0;
        #[expect(unsafe_code, reason = "calling a C function")]
        let status = {
            // SAFETY: the type of both functions that this is called for; the number outlives the call.
            unsafe { self.function::<Number>(name)?(&raw mut number) }
        };
        self.check(name, status).map(|()| number)
    }

    fn gpu(&self, ordinal: c_int, driver: Option<String>, cuda: String) -> Answer<LocalGpu> {
        type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
        type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
        type Memory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
        type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
        type Uuid = unsafe extern "C" fn(*mut [u8; 16], c_int) -> c_int;
        let (mut device, mut name, mut memory) = (0, [0; 256], 0);
        let (mut capability, mut uuid) = ([0; 2], [0; 16]);
        #[expect(unsafe_code, reason = "calling C functions")]
        // SAFETY: the types of these functions. Each writes one value, which outlives the call, and no more of the
        // name than its length.
        unsafe {
            self.check("cuDeviceGet", self.function::<Get>("cuDeviceGet")?(&raw mut device, ordinal))?;
            let status = self.function::<Name>("cuDeviceGetName")?(
                name.as_mut_ptr(),
                c_int::try_from(name.len()).unwrap_or(0),
                device,
            );
            self.check("cuDeviceGetName", status)?;
            let status = self.function::<Memory>("cuDeviceTotalMem_v2")?(&raw mut memory, device);
            self.check("cuDeviceTotalMem_v2", status)?;
            let attribute = self.function::<Attribute>("cuDeviceGetAttribute")?;
            for (part, which) in capability.iter_mut().zip(CAPABILITY) {
                self.check("cuDeviceGetAttribute", attribute(part, which, device))?;
            }
            // The newer one tells parts of a divided GPU apart.
            let ask = self
                .function::<Uuid>("cuDeviceGetUuid_v2")
                .or_else(|_| self.function::<Uuid>("cuDeviceGetUuid"))?;
            self.check("cuDeviceGetUuid", ask(&raw mut uuid, device))?;
        }
        let name: Vec<u8> = name.iter().take_while(|c| **c != 0).map(|c| c.cast_unsigned()).collect();
        let [major, minor] = capability.map(|part: c_int| u32::try_from(part).unwrap_or(0));
        Ok(LocalGpu {
            name: String::from_utf8_lossy(&name).into_owned(),
            sm: Sm(major * 10 + minor),
            memory: memory as u64,
            uuid: uuid_text(uuid),
            driver,
            cuda,
        })
    }

    /// A function of the driver.
    ///
    /// # Safety
    /// `F` is the type of that function.
    #[expect(unsafe_code, reason = "symbols have no types")]
    unsafe fn function<F: Copy>(&self, name: &str) -> Answer<F> {
        // SAFETY: as the caller promises. The library is open as long as this exists.
        let found = unsafe { self.library.get::<F>(name.as_bytes()) };
        found.map(|symbol| *symbol).map_err(|_| {
            let message = format!("the NVIDIA driver has no `{name}`: it is too old, or a stub");
            Box::new(Refusal::new("driver", "driver-failed", message).help("install NVIDIA's driver"))
        })
    }

    fn check(&self, function: &str, status: c_int) -> Answer<()> {
        if status == 0 {
            return Ok(());
        }
        let what = self.error_name(status).unwrap_or_else(|| "an unknown error".to_owned());
        let message = format!("the NVIDIA driver fails: `{function}` says {what} ({status})");
        let help = match status {
            // CUDA_ERROR_STUB_LIBRARY
            34 => "a stub of the driver was found first: take CUDA's `stubs` folder out of `LD_LIBRARY_PATH`",
            // CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
            803 => {
                "the driver's library and its kernel module are of different versions: restart the machine"
            }
            _ => "`nvidia-smi` shows if the driver works at all",
        };
        Err(Box::new(Refusal::new("driver", "driver-failed", message).help(help)))
    }

    fn error_name(&self, status: c_int) -> Option<String> {
        type ErrorName = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
        let mut name = std::ptr::null();
        #[expect(unsafe_code, reason = "calling a C function")]
        // SAFETY: the type of that function. It gives a null pointer or a text that lives as long as the library.
        unsafe {
            let ask = self.function::<ErrorName>("cuGetErrorName").ok()?;
            (ask(status, &raw mut name) == 0 && !name.is_null())
                .then(|| std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    }
}

fn no_gpu() -> Box<Refusal> {
    let message = "the NVIDIA driver shows no GPU";
    let help = "`CUDA_VISIBLE_DEVICES` may hide it; `nvidia-smi -L` lists what the driver sees";
    Box::new(Refusal::new("driver", "no-gpu", message).help(help))
}
