//! Texts with a form of their own: names, sizes, durations, versions, opset requirements, packages, URLs.

use std::time::Duration;

use super::codes;
use super::model::OpsetRequirement;

/// Why a text does not fit. The message continues "`TEXT` …".
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: String,
}

impl Bad {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Bad {
        Bad { code: codes::BAD_FORMAT, message: message.into(), help: help.into() }
    }
}

/// The longest build that can be allowed.
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The highest opset that a requirement can name; far beyond any that exists.
const MAX_OPSET: i64 = 1000;

/// `[a-z0-9][a-z0-9._-]{0,63}`
pub(super) fn name(text: &str) -> Result<(), Bad> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let fits = (1..=64).contains(&bytes.len())
        && plain(bytes[0])
        && bytes.iter().all(|b| plain(*b) || b"._-".contains(b));
    if fits {
        return Ok(());
    }
    let message = "is not a name: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`, starting with a letter or digit";
    let lower: String = text.to_lowercase().replace(' ', "-");
    let help = if lower != text && name(&lower).is_ok() { format!("write `{lower}`") } else { String::new() };
    Err(Bad { code: codes::BAD_NAME, ..Bad::new(message, help) })
}

/// Is this a name of a model, a target and the like?
///
/// # Errors
/// It is not; says why.
pub fn check_name(text: &str) -> Result<(), String> {
    name(text).map_err(|bad| bad.message)
}

/// A number and the text after it.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

/// `4GiB`, `512 MiB`: bytes.
pub(super) fn size(text: &str) -> Result<u64, Bad> {
    const HELP: &str = "write a whole number and a unit, such as `4GiB` or `512 MiB`, or an integer of bytes";
    let bad = || Bad::new("is not a size", HELP);
    let (number, unit) = split_number(text.trim()).ok_or_else(bad)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        // GB is 10^9 to some and 2^30 to others: ask.
        "KB" | "kB" | "K" | "k" => {
            return Err(Bad::new("has an ambiguous unit", "write `KiB`, which is 1024 bytes"));
        }
        "MB" | "M" => return Err(Bad::new("has an ambiguous unit", "write `MiB`, which is 1024 KiB")),
        "GB" | "G" => return Err(Bad::new("has an ambiguous unit", "write `GiB`, which is 1024 MiB")),
        "TB" | "T" => return Err(Bad::new("has an ambiguous unit", "write `TiB`, which is 1024 GiB")),
        _ => return Err(bad()),
    };
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes <= i64::MAX as u64);
    match bytes {
        Some(0) => Err(Bad { code: codes::OUT_OF_RANGE, ..Bad::new("is nothing", HELP) }),
        Some(bytes) => Ok(bytes),
        None => Err(Bad { code: codes::OUT_OF_RANGE, ..Bad::new("is too large", "") }),
    }
}

/// A size as manifests have it: `4GiB`, in bytes.
///
/// # Errors
/// It is no size; the text says what to write.
pub fn parse_size(text: &str) -> Result<u64, String> {
    size(text).map_err(|bad| format!("{}: {}", bad.message, bad.help))
}

/// `90s`, `30min`, `1h`, `1h 30min`.
pub(super) fn duration(text: &str) -> Result<Duration, Bad> {
    const HELP: &str = "write a whole number and a unit: `90s`, `30min`, `1h`";
    let bad = || Bad::new("is not a duration", HELP);
    let mut rest = text.trim();
    let mut seconds = 0u64;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest).ok_or_else(bad)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &tail[..letters] {
            "s" => 1,
            "min" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            "m" => return Err(Bad::new("has an ambiguous unit", "write `min` for minutes")),
            _ => return Err(bad()),
        };
        seconds = number.checked_mul(unit).and_then(|n| n.checked_add(seconds)).ok_or_else(bad)?;
        rest = tail[letters..].trim_start();
    }
    let duration = Duration::from_secs(seconds);
    if duration.is_zero() || duration > MAX_TIMEOUT {
        let help = "the least is `1s`, the most is `30d`";
        return Err(Bad { code: codes::OUT_OF_RANGE, ..Bad::new("is too short or too long", help) });
    }
    Ok(duration)
}

/// `10.3`: numbers with dots between.
pub(super) fn version(text: &str) -> Result<String, Bad> {
    let number = |part: &str| (1..=9).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if text.len() <= 40 && text.split('.').all(number) {
        return Ok(text.to_owned());
    }
    Err(Bad::new("is not a version", "write numbers with dots between, such as `10.3` or `1.7.1.116`"))
}

/// `>=17`, `17`, `>=13, <=17`.
pub(super) fn opset(text: &str) -> Result<OpsetRequirement, Bad> {
    let bad = || Bad::new("is not an opset requirement", "write `>=17`, `17` or `>=13, <=17`");
    let (mut min, mut max) = (1, MAX_OPSET);
    for part in text.split(',').map(str::trim) {
        let operator = part.len() - part.trim_start_matches(['<', '>', '=']).len();
        let number: i64 = match split_number(part[operator..].trim()) {
            Some((n @ 1..=1000, "")) => n.cast_signed(),
            _ => return Err(bad()),
        };
        let (low, high) = match &part[..operator] {
            "" | "=" | "==" => (number, number),
            ">=" => (number, MAX_OPSET),
            ">" => (number + 1, MAX_OPSET),
            "<=" => (1, number),
            "<" => (1, number - 1),
            _ => return Err(bad()),
        };
        min = min.max(low);
        max = max.min(high);
    }
    if min > max {
        return Err(Bad::new("can be met by no opset", ""));
    }
    Ok(OpsetRequirement { min, max: (max < MAX_OPSET).then_some(max) })
}

/// `magika==1.0.3`: the name as PEP 503 normalizes it, and the version.
pub(super) fn package(text: &str) -> Result<(String, String), Bad> {
    let bad = |message| Bad::new(message, "pin the package to one version, such as `magika==1.0.3`");
    let (name, version) = text.split_once("==").ok_or_else(|| bad("does not pin an exact version"))?;
    let (name, version) = (name.trim(), version.trim());
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let ends = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphanumeric()) && s.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if !ends(name) || name.len() > 128 || !name.bytes().all(inner) {
        return Err(bad("does not start with the name of a package"));
    }
    if !ends(version) || version.len() > 64 || !version.bytes().all(|b| inner(b) || b"+!".contains(&b)) {
        return Err(bad("does not pin an exact version"));
    }
    let words: Vec<&str> = name.split(['-', '_', '.']).filter(|word| !word.is_empty()).collect();
    Ok((words.join("-").to_lowercase(), version.to_owned()))
}

/// The path of a file inside a package: relative, and it stays inside.
pub(super) fn inner_path(text: &str) -> Result<String, Bad> {
    let bad = |message| Bad {
        code: codes::BAD_PATH,
        ..Bad::new(message, "write the path inside the package, with `/`")
    };
    if text.starts_with('/') {
        return Err(bad("is an absolute path"));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(bad("leaves the package"));
    }
    let odd = |part: &str| part.is_empty() || part == "." || part.contains(['\\', '\0']);
    if text.split('/').any(odd) {
        return Err(bad("is not a plain path"));
    }
    Ok(text.to_owned())
}

/// A URL of a scheme that can be fetched. Credentials are the caller's to refuse: they must not be shown.
pub(super) fn url(text: &str) -> Result<String, Bad> {
    let bad = |message| Bad::new(message, "write `https://…`, `http://…` or `file:///…`");
    let rest = ["https://", "http://", "file://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .ok_or_else(|| bad("is not a URL that can be fetched"))?;
    if rest.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad("is not a URL"));
    }
    Ok(text.to_owned())
}

/// Does a URL hold a user name or a password?
pub(super) fn has_credentials(url: &str) -> bool {
    let authority =
        url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
    authority.contains('@')
}

/// 64 hex digits, in lower case afterwards.
pub(super) fn sha256(text: &str) -> Result<String, Bad> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Bad::new("is not a SHA-256", "write 64 hex digits, as `sha256sum` prints them"))
}

/// The environment variable's part for a toolchain: `trt-10.3` is `TRT_10_3`.
pub(super) fn variable_part(toolchain: &str) -> String {
    toolchain.to_ascii_uppercase().replace(['-', '.'], "_")
}

/// The glob that matches this name alone, whatever characters are in it.
#[must_use]
pub fn glob_of(name: &str) -> String {
    // A backslash makes the next character a plain one, and is one itself only in brackets.
    globset::escape(name).replace('\\', "[\\]")
}

/// A TOML key, quoted if need be.
#[must_use]
pub fn toml_key(name: &str) -> String {
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        name.to_owned()
    } else {
        toml::Value::String(name.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_glob_of_a_name_matches_it_alone() {
        for name in ["a\\b", "a[0]", "{x}", "a*b?", "!a", "a\\", "[", "plain/name:0"] {
            let glob = globset::Glob::new(&glob_of(name)).unwrap().compile_matcher();
            assert!(glob.is_match(name) && !glob.is_match(format!("{name}x")), "{name}");
        }
    }

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "0", "rtx-3090", "a.b_c-d", &"x".repeat(64)] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in ["", "A", "-a", ".a", "a b", "é", "a/b", &"x".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert_eq!(name("RTX 3090").unwrap_err().help, "write `rtx-3090`");
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("4GiB"), Ok(4 << 30));
        assert_eq!(size(" 512 MiB "), Ok(512 << 20));
        assert_eq!(size("7B"), Ok(7));
        for bad in [
            "",
            "GiB",
            "4",
            "4 GB",
            "4.5GiB",
            "-1GiB",
            "0GiB",
            "99999999TiB",
            "99999999999999999999B",
            "4GiBs",
            "٤GiB",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(size("4GB").unwrap_err().help.contains("GiB"));
    }

    #[test]
    fn durations_add_up() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30min"), Ok(Duration::from_secs(1800)));
        assert_eq!(duration("1h 30min"), Ok(Duration::from_secs(5400)));
        for bad in ["", "30", "30m", "1.5h", "0s", "31d", "-1s", "99999999999999999d", "1h30", "1 é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn opset_requirements_become_a_range() {
        let range = |text| opset(text).map(|o| (o.min, o.max)).unwrap();
        assert_eq!(range(">=17"), (17, None));
        assert_eq!(range("17"), (17, Some(17)));
        assert_eq!(range(">=13, <=17"), (13, Some(17)));
        assert_eq!(range("> 12,<18"), (13, Some(17)));
        for bad in
            ["", ">=", "17+", ">=17,", ">=18, <=17", "=>17", "0", "1001", "<1", "-3", "9".repeat(30).as_str()]
        {
            assert!(opset(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn packages_are_pinned_and_normalized() {
        assert_eq!(package("Magika_Model.x == 1.0.3"), Ok(("magika-model-x".into(), "1.0.3".into())));
        assert!(package("a==1!2.0+cu12").is_ok());
        for bad in
            ["magika", "magika>=1", "magika==", "magika==1.*", "==1", "a===1", "a[x]==1", "-a==1", "a==1; x"]
        {
            assert!(package(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_stay_inside_their_package() {
        assert!(inner_path("magika/models/model.onnx").is_ok());
        for bad in ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\\b", "", "a/\0"] {
            assert!(inner_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_have_a_known_scheme() {
        assert!(url("https://example.com/m.onnx").is_ok());
        for bad in ["ftp://x/y", "example.com", "https://", "https://a b", ""] {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert!(has_credentials("https://me:secret@example.com/x"));
        assert!(!has_credentials("https://example.com/a@b"));
    }
}
