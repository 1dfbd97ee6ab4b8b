//! The NVIDIA driver: its library, and the calls to it. Loaded in workers alone.

use std::ffi::{OsStr, c_char, c_int, c_uint};
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::protocol::Refusal;
use crate::gpu::{LocalGpu, Sm, driver_version, uuid_text};

/// The driver's library: by its name, then where containers, WSL and hosted notebooks put it beside the loader's way.
const LIBRARIES: [&str; 4] = [
    "libcuda.so.1",
    "/usr/local/nvidia/lib64/libcuda.so.1",
    "/usr/lib/wsl/lib/libcuda.so.1",
    "/usr/lib64-nvidia/libcuda.so.1",
];

/// `CUDA_ERROR_OUT_OF_MEMORY`
const OUT_OF_MEMORY: c_int = 2;

/// `CUresult` of a machine without a GPU, or with all of them hidden.
const NO_DEVICE: c_int = 100;

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `…_MINOR`.
const CAPABILITY: [c_int; 2] = [75, 76];

/// The driver, started. Never unloaded.
pub(super) struct Driver {
    library: Library,
}

pub(super) type Answer<T> = Result<T, Box<Refusal>>;

impl Driver {
    /// Loads the driver and starts it.
    pub(super) fn start() -> Answer<Driver> {
        let driver = Driver::open()?;
        type Init = unsafe extern "C" fn(c_uint) -> c_int;
        #[expect(unsafe_code, reason = "calling a C function")]
        let status = {
            // SAFETY: the type of `cuInit`, whose one argument must be 0.
            unsafe { driver.function::<Init>("cuInit")?(0) }
        };
        if status == NO_DEVICE {
            return Err(no_gpu());
        }
        driver.check("cuInit", status)?;
        Ok(driver)
    }

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

    /// All GPUs that it shows, in its order; at least one.
    pub(super) fn gpus(&self) -> Answer<Vec<LocalGpu>> {
        let cuda = self.number("cuDriverGetVersion")?;
        let cuda = format!("{}.{}", cuda / 1000, cuda % 1000 / 10);
        let version = ["/proc/driver/nvidia/version", "/sys/module/nvidia/version"]
            .iter()
            .find_map(|file| driver_version(&crate::fs::read_to_string(Path::new(file)).ok()?));
        let count = self.number("cuDeviceGetCount")?;
        if count == 0 {
            return Err(no_gpu());
        }
        (0..count).map(|ordinal| self.gpu(ordinal, version.clone(), cuda.clone())).collect()
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
        type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
        type Memory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
        type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
        type Uuid = unsafe extern "C" fn(*mut [u8; 16], c_int) -> c_int;
        let device = self.device(ordinal)?;
        let (mut name, mut memory) = ([0; 256], 0);
        let (mut capability, mut uuid) = ([0; 2], [0; 16]);
        #[expect(unsafe_code, reason = "calling C functions")]
        // SAFETY: the types of these functions. Each writes one value, which outlives the call, and no more of the
        // name than its length.
        unsafe {
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

    /// The handle of a GPU.
    pub(super) fn device(&self, ordinal: c_int) -> Answer<c_int> {
        type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
        let mut device = 0;
        #[expect(unsafe_code, reason = "calling a C function")]
        let status = {
            // SAFETY: the type of that function; the handle outlives the call.
            unsafe { self.function::<Get>("cuDeviceGet")?(&raw mut device, ordinal) }
        };
        self.check("cuDeviceGet", status).map(|()| device)
    }

    /// A function of the driver.
    ///
    /// # Safety
    /// `F` is the type of that function.
    #[expect(unsafe_code, reason = "symbols have no types")]
    pub(super) unsafe fn function<F: Copy>(&self, name: &str) -> Answer<F> {
        // SAFETY: as the caller promises. The library is open as long as this exists.
        let found = unsafe { self.library.get::<F>(name.as_bytes()) };
        found.map(|symbol| *symbol).map_err(|_| {
            let message = format!("the NVIDIA driver has no `{name}`: it is too old, or a stub");
            Box::new(Refusal::new("driver", "driver-failed", message).help("install NVIDIA's driver"))
        })
    }

    /// Turns what a function returned into what is wrong.
    pub(super) fn check(&self, function: &str, status: c_int) -> Answer<()> {
        if status == 0 {
            return Ok(());
        }
        let what = self.error_name(status).unwrap_or_else(|| "an unknown error".to_owned());
        if status == OUT_OF_MEMORY {
            return Err(out_of_memory(&format!("`{function}` says {what} ({status})")));
        }
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

/// The GPU has too little memory.
pub(super) fn out_of_memory(what: &str) -> Box<Refusal> {
    let message = format!("the GPU has too little free memory: {what}");
    let help = "stop what else runs on it (`nvidia-smi` shows that), or give smaller samples";
    Box::new(Refusal::new("run", "gpu-out-of-memory", message).help(help))
}

fn no_gpu() -> Box<Refusal> {
    let message = "the NVIDIA driver shows no GPU";
    let help = "`CUDA_VISIBLE_DEVICES` may hide it; `nvidia-smi -L` lists what the driver sees";
    Box::new(Refusal::new("driver", "no-gpu", message).help(help))
}
