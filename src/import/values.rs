//! What stands after `=`: lists, shapes, sizes and types, as each version of trtexec takes them apart.

use std::collections::BTreeMap;

use super::Version;

/// Minimum, optimum and maximum of one input.
pub(super) type Shapes = BTreeMap<String, Vec<i64>>;

/// Splits a list at every comma. There is no escape; an empty last element is dropped by 8.6 and an error later.
pub(super) fn list(value: &str, version: Version) -> Result<Vec<&str>, String> {
    if value.is_empty() {
        return Err("nothing stands after `=`".to_owned());
    }
    let mut elements: Vec<&str> = value.split(',').collect();
    if version < Version(9, 0, 0) && elements.last() == Some(&"") {
        elements.pop();
    }
    match elements.iter().any(|e| e.is_empty()) {
        true => Err("an element of the list is empty".to_owned()),
        false => Ok(elements),
    }
}

/// `NAME:VALUE`, split at the last colon; quotes around the name are dropped.
pub(super) fn pair(element: &str) -> Result<(String, &str), String> {
    if element.contains('\'') {
        let parts: Vec<&str> = element.split('\'').collect();
        return match parts.as_slice() {
            [before, name, rest] if rest.starts_with(':') => Ok((format!("{before}{name}"), &rest[1..])),
            _ => Err(format!("`{element}` has quotes that do not enclose one name before a `:`")),
        };
    }
    match element.rsplit_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value)),
        _ => Err(format!("`{element}` is not `NAME:VALUE`")),
    }
}

/// `NAME:1x3x224x224,…`
pub(super) fn shapes(value: &str, version: Version) -> Result<Shapes, String> {
    let mut shapes = Shapes::new();
    for element in list(value, version)? {
        let (name, dims) =
            pair(element).map_err(|e| format!("{e}; a shape is written `NAME:1x3x224x224`"))?;
        let dims = if dims == "scalar" && version >= Version(10, 0, 0) {
            Vec::new()
        } else {
            let number = |d: &str| {
                d.parse::<i64>().map_err(|_| format!("`{dims}` is no shape; write it as `1x3x224x224`"))
            };
            dims.split('x').map(number).collect::<Result<_, _>>()?
        };
        if shapes.insert(name.clone(), dims).is_some() {
            return Err(format!("`{name}` has two shapes"));
        }
    }
    Ok(shapes)
}

/// How much memory a size of `--memPoolSize` is on this version, in bytes, and if that is not what it looks like.
pub(super) fn pool_size(text: &str, version: Version) -> Result<(f64, bool), String> {
    const MIB: f64 = (1u64 << 20) as f64;
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no size"))?;
    let unit = |letter: char| match letter.to_ascii_uppercase() {
        'B' => Some(1.0),
        'K' => Some(1024.0),
        'M' => Some(MIB),
        'G' => Some(1024.0 * MIB),
        _ => None,
    };
    let Some(last) = suffix.chars().last() else { return Ok((number * MIB, false)) };
    // What the author of `4GiB` or `4GB` means.
    let meant = suffix.chars().next().and_then(unit).map(|unit| number * unit);
    let bytes = if version < Version(10, 0, 0) {
        number * MIB
    } else {
        let unit = unit(last).ok_or_else(|| format!("`{suffix}` is no unit; the units are B, K, M and G"))?;
        if version < Version(10, 1, 0) { number * unit * MIB } else { number * unit }
    };
    Ok((bytes, meant != Some(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V86: Version = Version(8, 6, 1);
    const V100: Version = Version(10, 0, 1);
    const V103: Version = Version(10, 3, 0);

    #[test]
    fn lists_have_no_escape_and_a_last_comma_depends() {
        assert_eq!(list("a,b", V103), Ok(vec!["a", "b"]));
        assert_eq!(list("a,", V86), Ok(vec!["a"]));
        assert!(list("a,", V103).is_err() && list("", V86).is_err() && list("a,,b", V86).is_err());
    }

    #[test]
    fn names_end_at_the_last_colon_or_quote() {
        assert_eq!(pair("/a:0:1x3"), Ok(("/a:0".to_owned(), "1x3")));
        assert_eq!(pair("'a:b':fp32"), Ok(("a:b".to_owned(), "fp32")));
        for bad in ["a", ":fp32", "'a:fp32", "'a'fp32", "'a'b':c"] {
            assert!(pair(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shapes_are_dims_by_name() {
        let read = shapes("x:1x3x8,y:scalar", V103).unwrap();
        assert_eq!((&read["x"], &read["y"]), (&vec![1, 3, 8], &Vec::new()));
        assert!(shapes("y:scalar", V86).is_err());
        for bad in ["x", "x:", "x:1,3", "x:axb", "x:1,x:2"] {
            assert!(shapes(bad, V103).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_suffix_means_something_else_on_each_version() {
        let mib =
            |text, version| pool_size(text, version).map(|(bytes, odd)| (bytes / 1048576.0, odd)).unwrap();
        assert_eq!([mib("4096", V86), mib("4096", V103)], [(4096.0, false); 2]);
        assert_eq!(mib("4G", V86), (4.0, true));
        assert_eq!(mib("4G", V103), (4096.0, false));
        assert_eq!(mib("1M", V100), (1048576.0, true));
        assert_eq!(mib("1024MiB", V103), (1024.0 / 1048576.0, true));
        assert!(pool_size("4X", V103).is_err() && pool_size("G", V103).is_err());
    }
}
