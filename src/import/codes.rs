//! The codes of this stage's diagnostics.

macro_rules! codes {
    ($($ident:ident = $code:literal : $meaning:literal;)*) => {
        $(pub(super) const $ident: &str = $code;)*

        /// Every code of this stage and its meaning in one line.
        pub const CODES: &[(&str, &str)] = &[$(($code, $meaning)),*];
    };
}

codes! {
    SHELL = "import-shell": "a command line needs a running shell to be understood";
    VARIABLE = "import-variable": "a command line uses a variable that nothing sets";
    LOG = "import-log": "the banner of a log cannot be read";
    PROGRAM = "import-program": "a command line is not one of `trtexec`, or there is none";
    OPTION = "import-option": "an option does not exist, or not in this version of TensorRT";
    VALUE = "import-value": "what stands after an option's `=` is not what it takes";
    CONFLICT = "import-conflict": "options contradict each other";
    VERSION = "import-version": "which version of TensorRT a command line is for is not said";
    GPU = "import-gpu": "which GPU a command line is for is not said";
    LOSSY = "import-lossy": "a manifest cannot say what an option does";
    STRICTER = "import-stricter": "the manifest holds TensorRT to more than the command line does";
    IGNORED = "import-ignored": "this version of TensorRT ignores an option, or a part of it, in silence";
    NO_MEANING = "import-no-meaning": "an option has no meaning for a manifest";
    VERBATIM = "import-verbatim": "an option is passed to `trtexec` as it is";
    MODEL = "import-model": "the model is not at hand, so that names could not be checked";
    GONE = "import-gone": "an option does not exist any more in TensorRT 11";
    RUNNER = "import-runner": "a command that runs `trtexec` does not say which TensorRT it brings";
    NAME = "import-name": "a name cannot be made of a file's";
    NOT_YET = "not-yet": "something that is planned and not done";
}
