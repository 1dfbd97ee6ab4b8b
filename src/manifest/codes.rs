//! The codes of this stage's diagnostics. They are stable: scripts and `explain` rely on them.

macro_rules! codes {
    ($($ident:ident = $code:literal : $meaning:literal;)*) => {
        $(pub(super) const $ident: &str = $code;)*

        /// Every code of this stage and its meaning in one line.
        pub const CODES: &[(&str, &str)] = &[$(($code, $meaning)),*];
    };
}

codes! {
    SYNTAX = "toml-syntax": "the text of a manifest is not TOML";
    NOT_UTF8 = "not-utf8": "a manifest is not UTF-8 text";
    NOT_A_FILE = "not-a-file": "a manifest is a pipe, a socket or a device";
    FILE_TOO_LARGE = "file-too-large": "a manifest is larger than any manifest can sensibly be";
    SCHEMA = "unsupported-schema": "a manifest is written for another version of enginewright";
    UNKNOWN_KEY = "unknown-key": "a key that has no meaning at its place, often a spelling mistake";
    MISSING_KEY = "missing-key": "a key that must be given is not";
    WRONG_TYPE = "wrong-type": "a value has another TOML type than its key takes";
    UNKNOWN_VALUE = "unknown-value": "a value is not one of the words that its key takes";
    OUT_OF_RANGE = "out-of-range": "a number is outside what its key takes";
    BAD_FORMAT = "bad-format": "a text does not have the form that its key takes";
    BAD_NAME = "bad-name": "a name does not match `[a-z0-9][a-z0-9._-]{0,63}`";
    BAD_PATH = "bad-path": "a path is empty, or leaves the place that it must stay in";
    EMPTY_VALUE = "empty-value": "a text, list or table that must hold something is empty";
    DUPLICATE_NAME = "duplicate-name": "a name is defined twice, in one file or in two";
    DUPLICATE_ITEM = "duplicate-item": "a list holds the same thing twice";
    CONFLICTING_KEYS = "conflicting-keys": "keys that exclude each other are given together";
    BUILT_IN_NAME = "built-in-name": "a name that belongs to something built in is defined";
    URL_CREDENTIALS = "url-credentials": "a URL in a checked-in manifest holds a user name or a password";
    UNKNOWN_GPU = "unknown-gpu": "a GPU name is in no table, or means several GPUs";
    UNKNOWN_SM = "unknown-sm": "no GPU is known to have this compute capability";
    UNKNOWN_PATTERN = "unknown-pattern": "a selector names a pattern that does not exist";
    UNKNOWN_HAZARD = "unknown-hazard": "a level is given to a hazard that does not exist";
    UNKNOWN_METRIC = "unknown-metric": "a tolerance is given for a metric that does not exist";
    UNKNOWN_TARGET = "unknown-target": "a target is used that no manifest defines";
    UNKNOWN_TOOLCHAIN = "unknown-toolchain": "a toolchain is used that no manifest defines";
    UNKNOWN_RULE_SET = "unknown-rule-set": "a rule set is used that no manifest defines";
    EMPTY_SELECTOR = "empty-selector": "a selector without any condition would select every node";
    BAD_GLOB = "bad-glob": "a glob cannot be compiled";
    BAD_REGEX = "bad-regex": "a regular expression cannot be compiled";
    NO_MATCH = "no-match": "the glob of a `[models.X]` table matches no file";
    UNREADABLE_FOLDER = "unreadable-folder": "a folder that a glob looks into cannot be read";
    UNORDERED_RANGE = "unordered-range": "a range is not min <= opt <= max";
    RANK_MISMATCH = "rank-mismatch": "min, opt and max of a profile have different lengths";
    EMPTY_PROFILE = "empty-profile": "an optimization profile sets nothing";
    AMBIGUOUS_ENGINE = "ambiguous-engine": "two engines would get the same name";
    AMBIGUOUS_VARIABLE = "ambiguous-variable": "one environment variable would set the root of two toolchains";
    UNUSED_OVERRIDE = "unused-override": "an `on` table is for a target that its model is not built for";
    TOO_MANY = "too-many-problems": "there are more problems than are worth showing";
    NO_MANIFESTS = "no-manifests": "the manifests folder holds no manifest";
}

#[cfg(test)]
mod tests {
    use super::CODES;

    #[test]
    fn codes_are_unique_and_kebab_case() {
        let unique: std::collections::BTreeSet<_> = CODES.iter().map(|(code, _)| code).collect();
        assert_eq!(unique.len(), CODES.len());
        assert!(CODES.iter().all(|(code, _)| {
            code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        }));
    }
}
