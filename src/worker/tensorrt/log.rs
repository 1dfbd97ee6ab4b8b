//! What the library says, at one severity, so that no setting changes what is recorded.

use std::ffi::{c_char, c_void};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use super::super::protocol::LogLine;

/// Severities of TensorRT: 0 internal error, 1 error, 2 warning, 3 info, 4 verbose.
const INFO: i32 = 3;

/// How much is kept, in bytes; escaped to JSON it still fits a frame.
const MAX_BYTES: usize = 6 << 20;

/// How much of one line is kept, in bytes.
const MAX_LINE: usize = 16 << 10;

/// What was said so far. TensorRT calls from several threads.
#[derive(Default)]
pub(in crate::worker) struct Log(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    kept: Vec<LogLine>,
    bytes: usize,
    dropped: u64,
}

impl Log {
    /// A log that lives as long as the process, since TensorRT keeps its logger for ever.
    pub(in crate::worker) fn start() -> &'static Log {
        Box::leak(Box::default())
    }

    /// TensorRT's logger interface that writes here; null if memory is out.
    #[expect(unsafe_code, reason = "the logger is a C++ object that calls back")]
    pub(in crate::worker) fn interface(&'static self) -> *mut c_void {
        let this: *const Log = self;
        // SAFETY: `receive` takes the pointer given here, which lives for ever; the bridge is never
        // destroyed.
        unsafe {
            let bridge = trtx_sys::create_rust_logger_bridge(receive, this.cast_mut().cast());
            trtx_sys::get_logger_interface(bridge)
        }
    }

    /// Takes what was said.
    pub(in crate::worker) fn take(&self) -> Vec<LogLine> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = std::mem::take(&mut lines.kept);
        if lines.dropped > 0 {
            let text = format!("enginewright: {} more lines were left out", lines.dropped);
            kept.push(LogLine { level: "info".into(), text });
        }
        kept
    }

    fn push(&self, severity: i32, text: &str) {
        if severity > INFO {
            return;
        }
        let mut end = text.len().min(MAX_LINE);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text[..end].trim_end();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Errors have a quarter for themselves: the cause stands at the end of a flood.
        let room = if severity < 2 { MAX_BYTES } else { MAX_BYTES / 4 * 3 };
        if lines.bytes + text.len() > room {
            lines.dropped += 1;
            return;
        }
        // The fixed part is for the frame around each line.
        lines.bytes += text.len() + 32;
        lines.kept.push(LogLine { level: level(severity).to_owned(), text: text.to_owned() });
    }
}

#[expect(unsafe_code, reason = "called from C++ with bare pointers")]
unsafe extern "C" fn receive(log: *mut c_void, severity: i32, message: *const c_char) {
    // Verbose lines are most, and cost nothing here.
    if log.is_null() || severity > INFO {
        return;
    }
    // SAFETY: the pointer is the one given in `interface`, to a `Log` that lives for ever and is
    // only ever shared; the message is a C string that lives during this call.
    let (log, text) = unsafe { (&*log.cast::<Log>(), super::text(message)) };
    log.push(severity, &text);
    // What is in memory is lost in a crash; what was written is not. It fails with a parent that is
    // gone, and then so will this process be.
    let _ = writeln!(std::io::stderr(), "[{}] {}", level(severity), text.trim_end());
}

fn level(severity: i32) -> &'static str {
    match severity {
        ..=0 => "fatal",
        1 => "error",
        2 => "warning",
        _ => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_names_and_verbose_is_left_out() {
        let log = Log::default();
        for severity in 0..=4 {
            log.push(severity, "text\n");
        }
        let levels: Vec<String> = log.take().into_iter().map(|line| line.level).collect();
        assert_eq!(levels, ["fatal", "error", "warning", "info"]);
    }

    #[test]
    fn a_flood_is_cut_and_the_error_after_it_kept() {
        let log = Log::default();
        let line = "é".repeat(40_000);
        for _ in 0..1_000 {
            log.push(3, &line);
        }
        log.push(1, "the cause");
        let lines = log.take();
        assert!(lines.iter().map(|l| l.text.len()).sum::<usize>() <= MAX_BYTES);
        assert_eq!(lines[lines.len() - 2].text, "the cause");
        assert!(lines[lines.len() - 1].text.ends_with("more lines were left out"));
    }
}
