//! Sizes, times and counts as people read them.

/// `59.1 MB`
#[must_use]
pub fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let value = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

/// `0.42 s`, `12.3 s`, `4 min 5 s`
#[must_use]
pub fn duration(ms: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    let seconds = ms as f64 / 1e3;
    match ms {
        0..10_000 => format!("{seconds:.2} s"),
        10_000..60_000 => format!("{seconds:.1} s"),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// `1 engine`, `2 engines`
#[must_use]
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("{n} {what}") } else { format!("{n} {what}s") }
}

/// How much more or less than before: `+3 %`; nothing where a tenth of a percent is not reached.
#[must_use]
pub(super) fn change(now: u64, before: u64) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let percent = (now as f64 / before.max(1) as f64 - 1.0) * 100.0;
    match percent.abs() {
        0.0..0.1 => None,
        0.1..10.0 => Some(format!("{percent:+.1} %")),
        10.0..1000.0 => Some(format!("{percent:+.0} %")),
        _ => Some(format!("{:.0} times", now as f64 / before.max(1) as f64)),
    }
}

/// A measured number, short: `0.000976`, `1.2e-7`, `inf`.
#[must_use]
pub(super) fn number(n: f64) -> String {
    match n.abs() {
        _ if n == 0.0 || !n.is_finite() => format!("{n}"),
        1e-3..1e6 => {
            let text = format!("{n:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{n:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!([0, 999, 1_500, 59_100_000].map(size), ["0 B", "999 B", "1.5 kB", "59.1 MB"]);
        assert_eq!([420, 12_300, 245_000].map(duration), ["0.42 s", "12.3 s", "4 min 5 s"]);
        let changes = [(1030, 1000), (850, 1000), (1000, 1000), (300, 100), (5000, 100), (1, 0)];
        let changes = changes.map(|(now, before)| change(now, before).unwrap_or_default());
        assert_eq!(changes, ["+3.0 %", "-15 %", "", "+200 %", "50 times", ""]);
        assert_eq!([0.0, 0.25, 1.25e-7, f64::INFINITY].map(number), ["0", "0.25", "1.25e-7", "inf"]);
    }
}
