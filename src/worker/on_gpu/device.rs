//! A GPU that is used: its context, its memory, a stream. Plain memory only, never managed.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

use crate::gpu::LocalGpu;
use crate::worker::cuda::{Answer, Driver};
use crate::worker::protocol::Refusal;

/// An address in the memory of a GPU: `CUdeviceptr`.
type Address = u64;

/// What unwritten memory holds: NaN in every type of float, -1 in integers.
const UNWRITTEN: u8 = 0xff;

/// How much is copied to a GPU and back before it is trusted.
const TRIAL: usize = 1 << 20;

/// The one GPU of this process, its primary context current in this thread.
pub(super) struct Device {
    driver: Driver,
    /// What it is.
    pub(super) gpu: LocalGpu,
    stream: *mut c_void,
}

impl Device {
    /// Takes the GPU of this UUID, which must be the first that the driver shows: TensorRT's own calls go there.
    pub(super) fn open(uuid: &str) -> Answer<Device> {
        type Retain = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;
        type SetCurrent = unsafe extern "C" fn(*mut c_void) -> c_int;
        type CreateStream = unsafe extern "C" fn(*mut *mut c_void, c_uint) -> c_int;
        let driver = Driver::start()?;
        let gpu = driver.gpus()?.swap_remove(0);
        if gpu.uuid != uuid {
            let message = format!("the GPU changed: it is {} now, and was {uuid}", gpu.uuid);
            return Err(Box::new(Refusal::new("driver", "gpu-changed", message).help("run again")));
        }
        let device = driver.device(0)?;
        let (mut context, mut stream) = (ptr::null_mut(), ptr::null_mut());
        #[expect(unsafe_code, reason = "calling C functions")]
        // SAFETY: the types of these functions. Context and stream outlive the calls, and are never given back: the
        // process ends when it is done.
        unsafe {
            // The one that the CUDA runtime inside TensorRT uses too.
            let retain = driver.function::<Retain>("cuDevicePrimaryCtxRetain")?;
            driver.check("cuDevicePrimaryCtxRetain", retain(&raw mut context, device))?;
            let set = driver.function::<SetCurrent>("cuCtxSetCurrent")?;
            driver.check("cuCtxSetCurrent", set(context))?;
            let create = driver.function::<CreateStream>("cuStreamCreate")?;
            driver.check("cuStreamCreate", create(&raw mut stream, 0))?;
        }
        let device = Device { driver, gpu, stream };
        device.try_memory()?;
        Ok(device)
    }

    /// Copies to the GPU and back: whatever is wrong is better known before an engine is loaded.
    fn try_memory(&self) -> Answer<()> {
        let sent: Vec<u8> = (0..TRIAL).map(|i| (i % 251) as u8).collect();
        let mut memory = Memory::default();
        memory.hold(self, TRIAL)?;
        memory.write(self, &sent)?;
        let kept = memory.read(self, TRIAL)?;
        memory.clear(self, TRIAL)?;
        let cleared = memory.read(self, TRIAL)?;
        memory.free(self)?;
        if kept == sent && cleared.iter().all(|byte| *byte == UNWRITTEN) {
            return Ok(());
        }
        let message = format!("the memory of {} does not hold what is written to it", self.gpu.name);
        Err(Box::new(Refusal::new("driver", "gpu-failed", message).help("`nvidia-smi -q` shows its errors")))
    }

    /// The stream, as TensorRT takes it.
    pub(super) fn stream(&self) -> *mut c_void {
        self.stream
    }

    /// Waits until all that was asked for on the stream is done.
    pub(super) fn wait(&self) -> Answer<()> {
        type Wait = unsafe extern "C" fn(*mut c_void) -> c_int;
        #[expect(unsafe_code, reason = "calling a C function")]
        let status = {
            // SAFETY: the type of that function, and a stream of this context.
            unsafe { self.driver.function::<Wait>("cuStreamSynchronize")?(self.stream) }
        };
        self.driver.check("cuStreamSynchronize", status)
    }

    /// Bytes of memory: free, and in all.
    pub(super) fn memory(&self) -> Answer<(u64, u64)> {
        type Info = unsafe extern "C" fn(*mut usize, *mut usize) -> c_int;
        let (mut free, mut total) = (0, 0);
        #[expect(unsafe_code, reason = "calling a C function")]
        let status = {
            // SAFETY: the type of that function; both numbers outlive the call.
            unsafe { self.driver.function::<Info>("cuMemGetInfo_v2")?(&raw mut free, &raw mut total) }
        };
        self.driver.check("cuMemGetInfo_v2", status)?;
        Ok((free as u64, total as u64))
    }
}

/// Some memory of a GPU, which grows when more is asked for.
#[derive(Default)]
pub(super) struct Memory {
    address: Address,
    size: usize,
}

impl Memory {
    /// Sees to it that there are this many bytes, and at least one: no tensor may have a null address.
    pub(super) fn hold(&mut self, device: &Device, size: usize) -> Answer<()> {
        type Alloc = unsafe extern "C" fn(*mut Address, usize) -> c_int;
        let size = size.max(1);
        if self.size >= size {
            return Ok(());
        }
        self.free(device)?;
        #[expect(unsafe_code, reason = "calling a C function")]
        let status = {
            // SAFETY: the type of that function; the address outlives the call.
            unsafe { device.driver.function::<Alloc>("cuMemAlloc_v2")?(&raw mut self.address, size) }
        };
        if status != 0 {
            let told = device.driver.check("cuMemAlloc_v2", status);
            let (free, total) = device.memory()?;
            return told.map_err(|mut refusal| {
                refusal.message = format!(
                    "{}: {} MiB are wanted, {} of {} MiB are free",
                    refusal.message,
                    size >> 20,
                    free >> 20,
                    total >> 20
                );
                refusal
            });
        }
        self.size = size;
        Ok(())
    }

    /// Its address, as TensorRT takes it.
    pub(super) fn address(&self) -> *mut c_void {
        ptr::without_provenance_mut(usize::try_from(self.address).unwrap_or(0))
    }

    /// Writes to its beginning.
    pub(super) fn write(&mut self, device: &Device, bytes: &[u8]) -> Answer<()> {
        type Copy = unsafe extern "C" fn(Address, *const c_void, usize) -> c_int;
        if bytes.is_empty() {
            return Ok(());
        }
        assert!(bytes.len() <= self.size, "memory is held before it is written");
        #[expect(unsafe_code, reason = "calling a C function")]
        let status = {
            // SAFETY: the type of that function; this memory has room for the bytes, as was just checked.
            unsafe {
                let copy = device.driver.function::<Copy>("cuMemcpyHtoD_v2")?;
                copy(self.address, bytes.as_ptr().cast(), bytes.len())
            }
        };
        device.driver.check("cuMemcpyHtoD_v2", status)
    }

    /// Makes its beginning look unwritten.
    pub(super) fn clear(&mut self, device: &Device, size: usize) -> Answer<()> {
        type Set = unsafe extern "C" fn(Address, u8, usize) -> c_int;
        if size == 0 {
            return Ok(());
        }
        assert!(size <= self.size, "memory is held before it is cleared");
        #[expect(unsafe_code, reason = "calling a C function")]
        let status = {
            // SAFETY: the type of that function; this memory has that many bytes, as was just checked.
            unsafe { device.driver.function::<Set>("cuMemsetD8_v2")?(self.address, UNWRITTEN, size) }
        };
        device.driver.check("cuMemsetD8_v2", status)
    }

    /// Reads its beginning.
    pub(super) fn read(&self, device: &Device, size: usize) -> Answer<Vec<u8>> {
        type Copy = unsafe extern "C" fn(*mut c_void, Address, usize) -> c_int;
        let mut bytes = vec![0; size];
        if size == 0 {
            return Ok(bytes);
        }
        assert!(size <= self.size, "memory is held before it is read");
        #[expect(unsafe_code, reason = "calling a C function")]
        let status = {
            // SAFETY: the type of that function; both sides have that many bytes.
            unsafe {
                let copy = device.driver.function::<Copy>("cuMemcpyDtoH_v2")?;
                copy(bytes.as_mut_ptr().cast(), self.address, size)
            }
        };
        device.driver.check("cuMemcpyDtoH_v2", status).map(|()| bytes)
    }

    /// Gives it back.
    fn free(&mut self, device: &Device) -> Answer<()> {
        type Free = unsafe extern "C" fn(Address) -> c_int;
        if self.size == 0 {
            return Ok(());
        }
        #[expect(unsafe_code, reason = "calling a C function")]
        let status = {
            // SAFETY: the type of that function. The stream is idle whenever memory is given back.
            unsafe { device.driver.function::<Free>("cuMemFree_v2")?(self.address) }
        };
        *self = Memory::default();
        device.driver.check("cuMemFree_v2", status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs a GPU: `cargo test --lib on_gpu -- --ignored`"]
    fn a_gpu_keeps_what_is_written_and_says_when_it_is_full() {
        let uuid = Driver::start().unwrap().gpus().unwrap().swap_remove(0).uuid;
        let device = Device::open(&uuid).unwrap();
        let (free, total) = device.memory().unwrap();
        assert!(free > 1 << 28 && free <= total, "{free} of {total}");
        // Odd sizes, growing and shrinking, in several places at once.
        let mut places: Vec<Memory> = (0..4).map(|_| Memory::default()).collect();
        for round in 0..50usize {
            let size = (round * 7919) % 300_001;
            let sent =
                |place: usize| -> Vec<u8> { (0..size).map(|i| ((i ^ place ^ round) % 251) as u8).collect() };
            for (i, place) in places.iter_mut().enumerate() {
                place.hold(&device, size).unwrap();
                assert!(place.address().addr() % 256 == 0, "TensorRT asks for that");
                place.write(&device, &sent(i)).unwrap();
            }
            device.wait().unwrap();
            for (i, place) in places.iter().enumerate() {
                assert!(place.read(&device, size).unwrap() == sent(i), "place {i} of {size} bytes");
            }
        }
        let mut large = Memory::default();
        large.hold(&device, 1 << 30).unwrap();
        assert!(device.memory().unwrap().0 <= free - (1 << 30));
        let refusal = large.hold(&device, usize::try_from(total).unwrap()).unwrap_err();
        assert_eq!(refusal.code, "gpu-out-of-memory", "{}", refusal.message);
        assert!(refusal.message.contains("MiB are free"), "{}", refusal.message);
        // What was held is given back, and the GPU still works.
        large.hold(&device, 1 << 30).unwrap();
        device.try_memory().unwrap();
        let refusal = Device::open("GPU-00000000-0000-0000-0000-000000000000").err().unwrap();
        assert_eq!(refusal.code, "gpu-changed");
    }
}
